"""What arrays of a source are: images or labels, of the training part or of the test.

Names say it: ``x_train``, ``train_images``, ``t10k-labels-idx1-ubyte``. Every array that was found
has a role or is refused; nothing is left out silently.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from lib.dialect import Column
from lib.images.files import Found

PARTS = {
    "train": {"train", "training", "tr"},
    "test": {"test", "testing", "t10k"},
    "validation": {"val", "valid", "validation", "dev"},
}
KINDS = {
    "y": {"y", "label", "labels", "target", "targets"},
    "x": {"x", "image", "images", "img", "imgs", "pixels", "data", "features"},
}
NAMES = {"classes", "names", "categories"}
STANDARD = ("label", "x", "y", "x_train", "y_train", "x_test", "y_test")

Pair = tuple[Found, Found]
"""Images and their labels."""


def part_of(name: str) -> str:
    """Return the part that a name means: train, test or validation; "" if none or more than one."""
    words = _words(name)
    found = [part for part, known in PARTS.items() if known & words]
    return found[0] if len(found) == 1 else ""


def pairs_of(
    arrays: Iterable[Found], columns: Mapping[str, Column], name: str
) -> tuple[dict[str, Pair], list[str]]:
    """Return images and labels of each part, and the names of the classes if they are there.

    Parameters
    ----------
    arrays : iterable of Found
        All that the source holds.
    columns : mapping
        What the arrays are called, see `lib.dialect.read_columns`; then others are not used.
    name : str
        What messages call the source.

    Returns
    -------
    parts : dict of str to (Found, Found)
        By ``train``, ``test``, ``validation``, or "" for all of them.
    names : list of str
        Of the classes, in order of the labels; empty if the source does not say.

    Raises
    ------
    ValueError
        If an array is neither, two have the same role, or images have no labels.
    """
    given = {key: column.names for key, column in columns.items() if key != "label"}
    roles: dict[str, Found] = {}
    names: list[str] = []
    for found in arrays:
        role = _given_role(found, given) if given else _role(found, name)
        if role == "names":
            names = [str(value) for value in found.values.ravel()]
        elif role in roles:
            raise ValueError(
                f"{roles[role].place} and {found.place} are both {role}: name one of them as "
                f"source, with the other files of its set, or say which is meant, {_hint(role)}"
            )
        elif role:
            roles[role] = found
    parts = sorted({role.partition("_")[2] for role in roles}, key=("", *PARTS).index)
    for part in parts:
        wanted = [f"{kind}_{part}".rstrip("_") for kind in "xy"]
        if not roles.keys() >= {*wanted}:
            there, absent = sorted(wanted, key=lambda role: role not in roles)
            raise ValueError(
                f"{name} has {roles[there].place} as {there} and no {absent}: give images and "
                f"labels together, as a folder or a glob; or say where they are, {_hint(absent)}"
            )
    if not parts:
        raise ValueError(f"{name} holds no images: {_hint('x_train')} says where they are")
    pairs = ((part, [f"{kind}_{part}".rstrip("_") for kind in "xy"]) for part in parts)
    return {part: (roles[x], roles[y]) for part, (x, y) in pairs}, names


def _given_role(found: Found, given: Mapping[str, Sequence[str]]) -> str:
    """Return what `columns` say that an array is; "" if nothing."""
    called = {found.key, found.file, found.file.rsplit("/", 1)[-1], f"{found.file}: {found.key}"}
    return next((role for role, names in given.items() if called & {*names}), "")


def _role(found: Found, name: str) -> str:
    """Return ``x_train``, ``y``, … or ``names``."""
    words = _words(found.key)
    if words & NAMES and found.values.dtype.kind in "SU":
        return "names"
    part = part_of(found.key) or part_of(found.file)
    kind = _kind(found.key) or _kind(found.file)
    if not kind and found.values.ndim in (1, 3, 4):
        kind = "y" if found.values.ndim == 1 else "x"
    unknown = words & {"extra", "unlabeled", "unlabelled"} or _words(found.file) & {"extra"}
    if not kind or unknown or (found.key and not part and _is_odd(words)):
        raise ValueError(
            f"{found.place} in {name} is neither images nor labels of a training or test part "
            f"that can be told, {found.values.dtype} of shape {found.values.shape}: take it out, "
            f"or say which arrays are meant, {_hint('x_train')}"
        )
    return f"{kind}_{part}".rstrip("_")


def _kind(name: str) -> str:
    words = _words(name)
    return next((kind for kind, known in KINDS.items() if known & words), "")


def _is_odd(words: set[str]) -> bool:
    """Whether a name has words beside images and labels: of which part, nobody knows."""
    plain = {word for known in KINDS.values() for word in known} | {"arr"}
    return any(not word.isdigit() for word in words - plain)


def _words(name: str) -> set[str]:
    """Return the words of a name: of ``XTrain`` and ``x_train`` x and train."""
    apart = re.sub(r"\d+x\d+", " ", name)  # of 32 x 32 pixels
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", apart)
    apart = re.sub(r"\b([XxYy])_?(?=(?:[Tt]rain|[Tt]est|[Vv]al))", r"\1 ", apart)
    return set(re.findall(r"t10k|[a-z]+|\d+", apart.lower()))


def _hint(role: str) -> str:
    others = [role, f"{'y' if role[0] == 'x' else 'x'}{role[1:]}"]
    return "columns=[" + ", ".join(f'"{one}=…"' for one in sorted(others)) + "]"
