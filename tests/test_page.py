"""How numbers look on every page: like decimals for what is compared, and no noise of rounding."""

from lib.pages import html as page

import pytest


@pytest.mark.parametrize(
    ("values", "own", "shown"),
    [
        ([1.0, 0.99], None, ["1.00", "0.99"]),
        ([0.5, 0.4], None, ["0.5", "0.4"]),
        ([0.50804, 0.4861, None, 0.96121], None, ["0.5080", "0.4861", "", "0.9612"]),
        ([12345.6, 7.0], None, ["12,346", "7"]),
        ([0.0001134, 0.0001247], None, ["0.0001134", "0.0001247"]),
        ([5.5e-05, 0.0772], 5.5e-05, ["0.000055", "0.077200"]),
        ([5.5e-05, 0.0772], None, ["0.00006", "0.07720"]),
        ([1.388e-17, 0.0772], 1.388e-17, ["0", "0.0772"]),
        ([0.0, -1.388e-17], None, ["0", "0"]),
        ([-0.00001, 1.5], None, ["0", "1.5"]),
        ([1.234e-07, 2e-07], None, ["1.234e-07", "2.000e-07"]),
        ([], None, []),
    ],
)
def test_numbers_that_are_compared_have_the_same_decimals(values, own, shown):
    places = page.decimals(values, own)
    assert [page.number(value, places) for value in values] == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4, "0.4"),
        (0.99996, "1"),
        (0.0000553, "0.0000553"),
        (33296.0, "33,296"),
        (2038.4, "2,038"),
        (-0.25, "-0.25"),
        (1.388e-17, "0"),
        (3e20, "3e+20"),
    ],
)
def test_number_that_stands_alone_has_four_digits_and_no_exponent(value, text):
    assert page.plain(value) == text
