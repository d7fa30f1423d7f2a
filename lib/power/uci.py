"""UCI's archive of household power readings, downloaded once and checked each time."""

import hashlib
import zipfile
import zlib

from lib.sources import download, local_data

URL = (
    "https://archive.ics.uci.edu/static/public/235/"
    "individual+household+electric+power+consumption.zip"
)
ARCHIVE = "individual_household_electric_power_consumption.zip"
TEXT = "household_power_consumption.txt"
TEXT_SHA256 = "4259c9d7ece5dbee9ab8d53682baac68d791c864f0f64a52b4043cb3b90894b7"


def fetch_uci() -> bytes:
    """Return UCI's text, from its archive 235 in ``DATA_DIR``'s ``power`` folder.

    Individual Household Electric Power Consumption: G. Hebrail and A. Berard, 2012,
    https://doi.org/10.24432/C58K54, licensed CC BY 4.0. One house in Sceaux, France: 2,075,259
    minutes from 2006-12-16 17:24 to 2010-11-26 21:02, of which 25,979 have no reading.

    The archive is downloaded the first time. The text in it must have the SHA-256 that many users
    of the set have published, each time; the archive around it has been packed anew in the course
    of time and so has no hash of its own here.

    Raises
    ------
    ValueError
        When the archive cannot be downloaded, or is not the one expected (it is then removed).
    """
    archive = local_data(f"power/{ARCHIVE}")
    if not archive.is_file():
        download(URL, f"power/{ARCHIVE}", "", f"the path of {TEXT} or of its .zip")
    try:
        with zipfile.ZipFile(archive) as packed:
            text = packed.read(TEXT)
        found = hashlib.sha256(text).hexdigest()
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        found = str(error)
    if found != TEXT_SHA256:
        archive.unlink()
        raise ValueError(
            f"{TEXT} from {URL} has SHA-256 {found}, not {TEXT_SHA256}: the download was cut short "
            "or the set has changed. Try again, or give the path of a file you trust"
        )
    return text
