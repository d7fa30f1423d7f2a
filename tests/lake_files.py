"""A small landing zone, and the whole way of its files through the lake."""

import os
from datetime import UTC, datetime, timedelta

from lib.catalogs import local_catalog
from lib.lakehouse import bronze, gold, landing, silver, tables
from lib.lakehouse.feeds import FEEDS, POWER

ZONES = {"power": "Europe/Paris", "tick": "America/New_York"}
HEADER = ";".join([*POWER.time, *POWER.values])
HOUR = range(600, 660)
BEGIN = datetime(2026, 1, 1, 6, tzinfo=UTC)


def readings(day, minutes, kw, *, header=HEADER, more=""):
    """UCI's text of some minutes of a day of January 2007."""
    lines = [
        f"{day}/1/2007;{m // 60:02}:{m % 60:02}:00;{kw};0.1;240.1;4.2;0;1;17{more}" for m in minutes
    ]
    return "\n".join([header, *lines]) + "\n"


def trades(day, prices, *, size=100):
    """Trades of a day of October 2013, a tenth of a second apart from 09:30 on."""
    start = datetime(2013, 10, day, 9, 30)
    lines = [
        f"{start + timedelta(seconds=0.1 * k):%Y-%m-%d %H:%M:%S.%f},{price},{size}"
        for k, price in enumerate(prices)
    ]
    return "\n".join(["timestamp,price,size", *lines]) + "\n"


class Lake:
    """A landing zone, and a catalog beside it."""

    def __init__(self, folder):
        self.folder, self.zone = folder, folder / "landing"
        folder.mkdir(parents=True, exist_ok=True)
        self.catalog = local_catalog(folder)

    def land(self, name, text, hour=0):
        """Write a file as it was written so many hours after `BEGIN`."""
        path = self.zone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        at = (BEGIN + timedelta(hours=hour)).timestamp()
        os.utime(path, (at, at))

    def run(self, feeds=FEEDS, **options):
        """Take in what has landed, and bring all that is made from it up to date."""
        told = {}
        for feed in feeds:
            bronze.take_in(self.catalog, feed, landing.landed(str(self.zone), feed))
            told[feed.name] = silver.update(self.catalog, feed, ZONES[feed.name], **options)
            for one in gold.TABLES:
                if one.name.startswith(feed.name):
                    told[one.name] = gold.update(self.catalog, one, ZONES[feed.name])
            told[f"{feed.name} lines"] = silver.totals(self.catalog, feed)
        return told

    def table(self, name):
        return self.catalog.load_table(name)

    def rows(self, name, **options):
        return tables.scan(self.table(name), **options)

    def content(self, feeds=FEEDS):
        """All rows of silver, quarantine and gold, in order."""
        names = [f"{feed.name}.{layer}" for feed in feeds for layer in ("silver", "quarantine")]
        names += [g.name for g in gold.TABLES if g.name.split(".")[0] in {f.name for f in feeds}]
        found = {}
        for name in names:
            rows = self.rows(name)
            columns = [column for column in rows.columns if column != "file"]
            found[name] = rows.select(columns).sort(columns).to_dicts()
        return found
