"""The packages that a lock file asks for, against those that are installed here."""

from importlib import metadata


def wanted(lock: str) -> dict[str, str]:
    """Return the version of each package that a lock file asks for on this machine, by name.

    Parameters
    ----------
    lock : str
        Content of a `requirements.lock`.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

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
    pairs = [(name, version, _installed(name)) for name, version in wanted(lock).items()]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
