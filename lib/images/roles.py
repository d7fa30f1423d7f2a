"""What arrays of a source are: images or labels, of the training part or of the test.

Names say it: ``x_train``, ``train_images``, ``t10k-labels-idx1-ubyte``. Every array that was found
has a role or is refused; nothing is left out silently.
"""

import re
from collections.abc import Mapping, Sequence

from lib.images.arrays import Found
from lib.images.files import BadImages

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
"""What `columns` may say: the column of labels of a CSV, and what arrays are called."""

Pair = tuple[Found, Found]
"""Images and their labels."""


def part_of(name: str) -> str:
    """Return the part that a name means: train, test or validation; "" if none or more than one."""
    found = [part for part, known in PARTS.items() if known & _words(name)]
    return found[0] if len(found) == 1 else ""


def pairs_of(
    arrays: Sequence[Found], given: Mapping[str, Sequence[str]], name: str
) -> tuple[dict[str, Pair], list[str]]:
    """Return images and labels of each part, and the names of the labels from 0, if they are there.

    Where it is `given` what the arrays of each role are called, others are not used.
    """
    roles: dict[str, Found] = {}
    for found in arrays:
        role = _given_role(found, given) if given else _role(found, name)
        if role in roles:
            raise BadImages(
                f"{roles[role].place} and {found.place} are both {role}: name one of them as "
                f"source, with the other files of its set, or say which is meant, {_hint(role)}"
            )
        roles |= {role: found} if role else {}
    names = [str(value) for value in roles.pop("names").values.flat] if "names" in roles else []
    if not roles:
        raise BadImages(f"{name} holds no images: {_hint('x_train')} says where they are")
    parts: dict[str, Pair] = {}
    for part in sorted({role[2:] for role in roles}, key=("", *PARTS).index):
        pair = [f"{kind}_{part}".rstrip("_") for kind in "xy"]
        there, *absent = sorted(pair, key=lambda role: role not in roles)
        if absent[0] not in roles:
            raise BadImages(
                f"{name} has {roles[there].place} as {there} and no {absent[0]}: give images and "
                f"labels together, as a folder or a glob; or say where they are, {_hint(absent[0])}"
            )
        parts[part] = roles[pair[0]], roles[pair[1]]
    return parts, names


def _given_role(found: Found, given: Mapping[str, Sequence[str]]) -> str:
    called = {found.key, found.file, found.file.rsplit("/", 1)[-1], f"{found.file}: {found.key}"}
    return next((role for role, names in given.items() if called & {*names}), "")


def _role(found: Found, name: str) -> str:
    """Return ``x_train``, ``y``, … or ``names``."""
    words = _words(found.key)
    if words & NAMES and found.values.dtype.kind in "SU":
        return "names"
    part = part_of(found.key) or part_of(found.file)
    kinds = [k for n in (found.key, found.file) for k, known in KINDS.items() if known & _words(n)]
    kind = kinds[0] if kinds else {1: "y", 3: "x", 4: "x"}.get(found.values.ndim, "")
    unknown = {"extra", "unlabeled", "unlabelled"} & (words | _words(found.file))
    odd = any(not word.isdigit() for word in words.difference(*KINDS.values(), {"arr"}))
    if not kind or unknown or (odd and not part):
        raise BadImages(
            f"{found.place} in {name} is neither images nor labels of a training or test part "
            f"that can be told, {found.values.dtype} of shape {found.values.shape}: take it out, "
            f"or say which arrays are meant, {_hint('x_train')}"
        )
    return f"{kind}_{part}".rstrip("_")


def _words(name: str) -> set[str]:
    """Return the words of a name: of ``XTrain`` and ``x_train`` x and train."""
    apart = re.sub(r"\d+x\d+", " ", name)  # of 32 x 32 pixels
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", apart)
    apart = re.sub(r"\b([XxYy])_?(?=(?:[Tt]rain|[Tt]est|[Vv]al))", r"\1 ", apart)
    return set(re.findall(r"t10k|[a-z]+|\d+", apart.lower()))


def _hint(role: str) -> str:
    return f'columns=["x{role[1:]}=…", "y{role[1:]}=…"]'
