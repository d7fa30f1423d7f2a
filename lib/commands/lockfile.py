"""The packages that a lock file asks for, against those that are installed here."""

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def wanted(lock: str) -> dict[str, str]:
    """Return the version of each package that a lock file asks for on this machine, by name.

    Parameters
    ----------
    lock : str
        Content of a `requirements.lock`.
    """
    heads = [line for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#"))]
    asked = [Requirement(line.rstrip("\\ ")) for line in heads]
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in asked
        if one.marker is None or one.marker.evaluate()
    }


def differences(lock: str) -> list[tuple[str, str, str]]:
    """Return every package that is not as a lock file asks for it.

    Returns
    -------
    list of (str, str, str)
        Name, the version that is asked for, and the installed one, "" where there is none.
    """
    here = {canonicalize_name(one.name): one.version for one in metadata.distributions()}
    found = [(name, version, here.get(name, "")) for name, version in wanted(lock).items()]
    return [one for one in found if one[1] != one[2]]
