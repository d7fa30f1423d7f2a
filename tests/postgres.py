"""A PostgreSQL of Debian's programs, for tests: made in a folder of its own, and gone with it."""

import getpass
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def programs():
    """Return the folder of PostgreSQL's programs; None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def prepare(user, *, password="", **options):
    """Make an empty database cluster; return its folder, and the command that serves it there.

    Without a password everybody is let in. It listens on a socket in its folder, and by TCP where
    `options`, which are PostgreSQL's own, say so. It never runs as root.
    """
    place = Path(tempfile.mkdtemp(prefix="postgres-"))
    owner = "postgres" if os.getuid() == 0 else getpass.getuser()
    as_owner = ["runuser", "-u", owner, "--"] if os.getuid() == 0 else []
    shutil.chown(place, owner)
    secret = place / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    data = ["-D", place / "data"]
    make = [*as_owner, programs() / "initdb", *data, "-U", user, "--no-sync"]
    make += ["--auth=scram-sha-256", f"--pwfile={secret}"] if password else ["--auth=trust"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=place)
    options = {"listen_addresses": "", "fsync": "off"} | options
    options["unix_socket_directories"] = place
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return place, [*as_owner, programs() / "postgres", *data, *flags]
