"""Whatever is wrong with an input: a sentence that helps, or it is read as it is meant."""

import re

import bad_inputs
import pytest
from bad_inputs import READ, SHARED, WAY, cases, outcomes, said, shared, table

NUMBERED = re.compile(r"(line|row|record) \d")
REMEDY = re.compile(
    r"(?i)\b(give|fetch|save|write|unpack|correct|remove|name|leave|rename|say|sort|export|run|"
    r"exchange|put|pack)\b"
)
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
MOST_SIGNS = 900


@pytest.fixture(scope="module")
def found():
    return list(outcomes())


RULE = re.compile(r"\bmust be\b|\bpixels are\b")  # of images, which say what was expected


def check(words, name, *, broken=False):
    """A sentence names the file, helps, dumps nothing, and calls nothing damaged that is not."""
    shown = words.partition(WAY)[0]
    assert name in shown or shown.startswith(
        ("columns ", "layout ", "time_zone ", "session", "as_of", "bin_s", "rows of")
    )
    assert REMEDY.search(shown) or RULE.search(shown), "what is to be done?"
    assert len(shown) <= MOST_SIGNS and shown.replace("\n", " ").isprintable()
    assert shown.count("\\x") < 3 and max(map(len, QUOTED.findall(shown)), default=0) < 200
    assert broken or "damaged" not in shown
    assert not re.search(r"\b(2[2-9]|[3-9]\d)\d\d-\d\d-\d\d", QUOTED.sub("", shown)), shown


def test_there_are_many_and_each_stands_once():
    names = [case.id for case in cases()]
    assert len(names) >= 150 and len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["power", "tick", "images"])
def test_every_refusal_is_a_sentence_that_helps(found, reader):
    wrong = []
    for case, words in found:
        if case.reader != reader or words == READ:
            continue
        try:
            check(words, next(iter(case.files)).partition(".")[0], broken=case.broken)
            assert all(word in words for word in case.words), f"{case.words} should be named"
            assert WAY in words
        except AssertionError as error:
            wrong.append(f"{case.id}: {error}\n   {words}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_table_is_up_to_date(found):
    kept = bad_inputs.TABLE.read_text(encoding="utf-8")
    assert kept == table(found), "python tests/bad_inputs.py writes it"


@pytest.mark.skipif(not SHARED.exists(), reason="no shared cases")
@pytest.mark.parametrize("path", shared(), ids=lambda path: path.name)
def test_shared_case_is_read_or_refused_with_a_way_out(path):
    words = said(path)
    assert words.startswith(READ) or check(words, "") is None


@pytest.mark.skipif(not SHARED.exists(), reason="no shared cases")
def test_no_shared_case_is_forgotten():
    assert len(shared()) == 28
