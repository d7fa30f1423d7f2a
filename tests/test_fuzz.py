"""A few spoilt inputs of many: ``python tests/fuzz_readers.py`` tries them for minutes."""

import fuzz_readers
import numpy as np
import pytest
from bad_inputs import CLEAN, Case


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["power", "tick", "images"])
def test_spoilt_bytes_are_read_or_refused_in_the_readers_own_words(reader):
    assert fuzz_readers.run(reader, minutes=1, examples=25) >= 25


def other(error):
    def read(*_):
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (other(KeyError("a")), "'a'"),
        (other(UnicodeDecodeError("utf-8", b"x", 0, 1, "no")), "UnicodeDecodeError is no reader's"),
        (other(ValueError("x" * 3_000)), "xxx"),
        (lambda *_: np.ones(fuzz_readers.FLOOR // 4), "bytes for"),
    ],
)
def test_a_broken_promise_is_found(monkeypatch, read, message):
    monkeypatch.setattr(fuzz_readers, "read", read)
    reader, files, options = CLEAN["trades"]
    with pytest.raises((KeyError, AssertionError), match=message):
        fuzz_readers.hold(Case(reader, "trades", files, options))


def test_a_hang_is_found(monkeypatch):
    monkeypatch.setattr(fuzz_readers, "MOST_S", -1.0)
    reader, files, options = CLEAN["trades"]
    with pytest.raises(AssertionError, match="s for"):
        fuzz_readers.hold(Case(reader, "trades", files, options))
