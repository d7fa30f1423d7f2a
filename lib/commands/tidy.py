"""What pipelines keep outside of run folders, tidied: told first, done when asked for."""

from lib.ground import layout
from lib.ground.console import say
from lib.registry.rows import MissingPart, part


def main(*, days: int = 30, apply: bool = False) -> None:
    """Tell what would go of what pipelines keep, and with `apply` let it go.

    Parameters
    ----------
    days : int, default 30
        What is younger stays.
    apply : bool, default False
        Do it; else nothing is changed.
    """
    for name in layout.pipelines():
        try:
            tidy = part(name, "tidy")
        except MissingPart:
            continue
        found = tidy(days=days, apply=apply)
        say(f"{name}: nothing is kept yet" if found.empty else f"{name}\n{found.to_string()}")
    if not apply:
        say("Nothing was changed. To do it: make tidy APPLY=1, or --apply")
