"""How numbers look on every page: like decimals for what is compared, and no noise of rounding."""

import re

from lib.pages import html as page

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup


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
        (1.234e-07, "1.234e-07"),
    ],
)
def test_number_that_stands_alone_has_four_digits_and_no_exponent(value, text):
    assert page.plain(value) == text


def test_document_escapes_what_is_not_known_to_be_safe():
    text = page.document("</title><script>alert(1)</script>", "<img src=x onerror=alert(1)>")
    assert "<script" not in text
    assert "<img" not in text
    assert "script-src 'none';" in page.policy_of(text)


def test_policy_allows_the_scripts_of_the_page_by_their_hash_and_nothing_else():
    text = page.document("x", Markup("<p>y</p>"), "unlink.js", policy="connect-src 'self'")
    script = text.partition("<script>")[2].partition("</script>")[0]
    assert f"script-src 'sha256-{page.digest(script)}';" in page.policy_of(text)
    assert page.policy_of(text).endswith("form-action 'none'; connect-src 'self'")
    more = page.add_script(text, "alert(1)")
    assert f"'sha256-{page.digest('alert(1)')}'" in page.policy_of(more)
    assert f"'sha256-{page.digest(script)}'; base-uri" in page.policy_of(more)
    assert "<script>alert(1)</script>\n</body>" in more


@pytest.mark.parametrize("path", sorted((page.HERE / "static").iterdir()), ids=lambda p: p.name)
def test_files_of_pages_stay_inside_their_element_and_fetch_nothing(path):
    text = path.read_text(encoding="utf-8")
    assert "</script" not in text.lower()
    assert "</style" not in text.lower()
    assert "<!--" not in text
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize(
    "path", sorted((page.HERE / "templates").glob("*.*")), ids=lambda path: path.name
)
def test_templates_hold_no_script_of_their_own_and_refer_to_nothing_outside(path):
    text = path.read_text(encoding="utf-8")
    page._environment().parse(text)
    assert not re.search(r"\son\w+=|javascript:|<link|src=\"?https?:", text, re.IGNORECASE)
    assert "autoescape" not in text
    assert ("|safe" in text.replace(" ", "")) is False


def test_template_that_is_given_too_little_is_an_error():
    with pytest.raises(UndefinedError):
        page.render("document.html", title="x")


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        ("open_stage.html", ("run", "stage", "state", "error", "xsrf")),
        ("message.html", ("title", "text")),
        ("waiting.html", ("around", "title", "what")),
        ("frame.html", ()),
    ],
)
def test_small_pages_escape_whatever_they_are_given(template, facts):
    bad = "\"'><script>alert(1)</script>"
    run = {"state": "lost", "reason": bad}
    run = {"run": run, "links": {bad: bad}, "data": {"page": bad}} | dict.fromkeys(facts, bad)
    text = page.render(template, **run)
    assert "<script" not in text and "\"'>" not in text and "&lt;script&gt;" in text
