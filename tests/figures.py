"""What every figure keeps to: labels, a size that fits on a page, the axes that it is given."""

from collections.abc import Callable, Mapping
from types import ModuleType

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import pytest

Draw = Callable[..., plt.Axes]


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test drew."""
    yield
    plt.close("all")


def check(module: ModuleType, drawn: Mapping[str, Draw], *, bare: tuple[str, ...] = ()) -> None:
    """Check each figure of a module: `drawn` draws one by name, those in `bare` have no labels."""
    assert {*drawn} == {name for name in dir(module) if name.startswith("plot_")}
    for name, draw in drawn.items():
        ax = draw()
        assert bool(ax.get_xlabel()) == bool(ax.get_ylabel()) == (name not in bare), name
        width, height = ax.figure.get_size_inches()
        assert width <= 8 and height <= 4, name
        _, ax = plt.subplots()
        assert draw(ax=ax) is ax, name
