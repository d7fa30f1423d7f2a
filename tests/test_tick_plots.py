"""Figures of forecasts on bars show what was given."""

from lib.tick import plots

import numpy as np
import pytest
from figures import check, close_figures  # noqa: F401

INTERVALS = {
    model: {
        day: {"rank_ic": ic, "rank_ic_low": ic - 0.05, "rank_ic_high": ic + 0.02}
        for day, ic in {"2013-10-10": 0.1, "2013-10-11": high, "mean": (0.1 + high) / 2}.items()
    }
    for model, high in {"ridge": 0.2, "lstm": 0.3}.items()
}
DRAWN = {
    "plot_rank_ic": lambda ax=None: plots.plot_rank_ic(INTERVALS, ax=ax),
    "plot_cost": lambda ax=None: plots.plot_cost({"all": 0.2, "top": 0.5}, {"spread": 0.6}, ax=ax),
    "plot_attention": lambda ax=None: plots.plot_attention(
        np.array([[0.2, 0.3, 0.5], [0.0, 0.1, 0.9]]), ax=ax
    ),
}


def test_figures_have_labels_fit_on_a_page_and_draw_where_they_are_told():
    check(plots, DRAWN)


def test_rank_ic_of_every_model_and_day_stands_within_its_interval():
    ax = DRAWN["plot_rank_ic"]()
    assert [label.get_text() for label in ax.get_xticklabels()] == list(INTERVALS["lstm"])
    ridge, lstm = ax.lines[:2]
    assert lstm.get_ydata() == pytest.approx([0.1, 0.3, 0.2])
    assert (lstm.get_xdata() - ridge.get_xdata()) == pytest.approx([0.3] * 3)
    ends = [segment[:, 1] for segment in ax.collections[1].get_segments()]
    np.testing.assert_allclose(ends, [[0.05, 0.12], [0.25, 0.32], [0.15, 0.22]])


def test_more_models_than_colours_are_all_drawn():
    ax = plots.plot_rank_ic({f"model {k}": INTERVALS["lstm"] for k in range(8)})
    assert len(ax.get_legend().get_texts()) == 8


def test_net_return_meets_zero_where_the_cost_is_the_gross_return():
    ax = DRAWN["plot_cost"]()
    (left, right), (gross, net) = ax.lines[1].get_data()
    assert (left, gross) == (0, 0.5)
    assert net == pytest.approx(0.5 - right)
    assert [text.get_text().strip() for text in ax.texts] == ["spread"]
    assert list(ax.lines[2].get_xdata()) == [0.6, 0.6]


def test_attention_ends_at_the_last_known_bar_on_the_right():
    ax = DRAWN["plot_attention"]()
    bars_back, mean = ax.lines[0].get_data()
    assert list(bars_back) == [2, 1, 0]
    assert mean == pytest.approx([0.1, 0.2, 0.7])
    assert ax.xaxis_inverted()
