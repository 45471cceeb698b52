"""Whatever is passed: an exception that says what to do, no secret in it, and the process goes on."""

from __future__ import annotations

import os
import traceback

import numpy as np
import pytest
from conftest import KEY, MASTER_LINE, flat_model, scheme
from numpy.lib.stride_tricks import as_strided
from watermark import Coins, Detector, Pool, Scheme, Session, sample_rows

GREEN = scheme("greenlist-h2")
GUMBEL = scheme("gumbel-h2")
WINDOWS = np.zeros((2, 2), dtype=np.uint32)
LOGITS = np.zeros((2, 100), dtype=np.float32)


def fresh() -> np.ndarray:
    return LOGITS.copy()


def read_only() -> np.ndarray:
    array = fresh()
    array.flags.writeable = False
    return array


BAD = {
    "float64 logits": (lambda: GREEN.bias_(LOGITS.astype(np.float64), WINDOWS), TypeError, r"float64.*astype"),
    "float16 logits": (lambda: GREEN.bias_(LOGITS.astype(np.float16), WINDOWS), TypeError, "float16"),
    "integer logits": (lambda: GREEN.bias_(LOGITS.astype(np.int32), WINDOWS), TypeError, "int32"),
    "byte-swapped logits": (lambda: GREEN.bias_(LOGITS.astype(">f4"), WINDOWS), TypeError, "byte order"),
    "a list of logits": (lambda: GREEN.bias_(LOGITS.tolist(), WINDOWS), TypeError, "numpy array"),
    "no logits": (lambda: GREEN.bias_(None, WINDOWS), TypeError, "NoneType"),
    "one row too flat": (lambda: GREEN.bias_(LOGITS[0].copy(), WINDOWS), ValueError, r"\[None, :\]"),
    "three dimensions": (lambda: GREEN.bias_(np.zeros((1, 2, 3), np.float32), WINDOWS), ValueError, "two dimensions"),
    "empty logits": (lambda: GREEN.bias_(np.zeros((0, 5), np.float32), WINDOWS), ValueError, "empty"),
    "read-only logits": (lambda: GREEN.bias_(read_only(), WINDOWS), ValueError, "read-only"),
    "broadcast logits": (lambda: GREEN.bias_(np.broadcast_to(LOGITS[0], (2, 100)), WINDOWS), ValueError, "overlaps|read-only"),
    "overlapping logits": (
        lambda: GREEN.bias_(as_strided(np.zeros(200, np.float32), (2, 100), (4, 4)), WINDOWS),
        ValueError,
        "overlaps",
    ),
    "askew logits": (
        lambda: GREEN.bias_(np.zeros(801, np.uint8)[1:].view(np.float32).reshape(2, 100), WINDOWS),
        ValueError,
        "ascontiguousarray",
    ),
    "too few windows": (lambda: GREEN.bias_(fresh(), WINDOWS[:1]), ValueError, "1 rows for a batch of 2"),
    "too wide windows": (lambda: GREEN.bias_(fresh(), np.zeros((2, 3), np.uint32)), ValueError, "2 context tokens"),
    "flat windows": (lambda: GREEN.bias_(fresh(), WINDOWS[0]), ValueError, "two dimensions"),
    "ragged windows": (lambda: GREEN.bias_(fresh(), [[1, 2], [3]]), ValueError, "inhomogeneous"),
    "negative ids": (lambda: GREEN.bias_(fresh(), np.array([[1, -100], [0, 0]])), ValueError, "-100 is not a token id"),
    "ids beyond 32 bits": (lambda: GREEN.bias_(fresh(), np.array([[1, 2**32], [0, 0]])), ValueError, "4294967296"),
    "ids beyond 63 bits": (
        lambda: GREEN.bias_(fresh(), np.array([[2**63 + 5, 1], [0, 0]], dtype=np.uint64)),
        ValueError,
        "not a token id",
    ),
    "float ids": (lambda: GREEN.bias_(fresh(), np.zeros((2, 2))), TypeError, "integers, not float64"),
    "boolean ids": (lambda: GREEN.bias_(fresh(), np.zeros((2, 2), bool)), TypeError, "bool"),
    "text as ids": (lambda: Detector(GREEN).push("a text"), TypeError, "tokenize"),
    "negative text": (lambda: Detector(GREEN).push(np.array([5, -1, 7])), ValueError, "-1"),
    "a matrix as text": (lambda: Detector(GREEN).push(np.zeros((2, 2), np.uint32)), ValueError, "one dimension"),
    "a number as text": (lambda: Detector(GREEN).push(5), ValueError, "one dimension"),
    "objects as text": (lambda: Detector(GREEN).push([1, None]), TypeError, "object"),
    "bias of a Gumbel mark": (lambda: GUMBEL.bias_(fresh(), WINDOWS), ValueError, "select"),
    "masks of a Gumbel mark": (lambda: GUMBEL.fill_masks(WINDOWS, 10), ValueError, "not a green list"),
    "masks into another shape": (
        lambda: GREEN.fill_masks(WINDOWS, 100, out=np.zeros((2, 3), np.uint32)),
        ValueError,
        "shape",
    ),
    "masks into another type": (lambda: GREEN.fill_masks(WINDOWS, 100, out=np.zeros((2, 4), np.int32)), TypeError, "uint32"),
    "a negative vocabulary": (lambda: GREEN.fill_masks(WINDOWS, -1), OverflowError, "out of range"),
    "no candidate": (lambda: GUMBEL.select(np.zeros((2, 5), np.float32), WINDOWS, Coins(1)), ValueError, "row 0"),
    "NaN candidates": (lambda: GUMBEL.select(np.full((2, 5), np.nan, np.float32), WINDOWS, Coins(1)), ValueError, "row 0"),
    "other candidates": (
        lambda: GUMBEL.select(np.ones((2, 5), np.float32), WINDOWS, Coins(1), tokens=np.zeros((2, 4), np.uint32)),
        ValueError,
        "tokens",
    ),
    "an unknown lane": (lambda: GUMBEL.words(WINDOWS, 4, lane="fast"), ValueError, "lane"),
    "far too many words": (lambda: GUMBEL.words(WINDOWS, 2**40, lane="gumbel"), ValueError, "too many"),
    "uneven self-hash seeds": (lambda: scheme("selfhash-h4").row_seeds([[1, 2, 3, 4], [1, 1, 1, 1]]), ValueError, "one at a time"),
    "one session twice": (lambda: sample_rows([(one := Session(GUMBEL)), one], LOGITS), ValueError, "twice"),
    "no sessions": (lambda: sample_rows([1, 2], LOGITS), TypeError, "not a Session"),
    "too few sessions": (lambda: sample_rows([Session(GUMBEL)], LOGITS), ValueError, "1 sessions for 2 rows"),
    "no threads": (lambda: Pool(0), ValueError, "from 1"),
    "a seed beyond 64 bits": (lambda: Coins(2**64), OverflowError, "too big|too large"),
    "alpha": (lambda: Detector(GREEN, alpha=1.5), ValueError, "alpha"),
    "an unknown profile": (lambda: Scheme("nothing", slot_key=KEY), ValueError, "built in are greenlist-h1"),
    "a profile of bytes": (lambda: Scheme(b"gumbel-h2", slot_key=KEY), TypeError, "pathlib.Path"),
    "an unknown field": (
        lambda: Scheme(dict(GUMBEL.profile, colour="red"), slot_key=KEY),
        ValueError,
        "unknown field `colour`",
    ),
    "another schema": (lambda: Scheme(dict(GUMBEL.profile, schema="x"), slot_key=KEY), ValueError, "schema"),
    "no key": (lambda: Scheme("gumbel-h2"), TypeError, "key_file="),
    "two keys": (lambda: Scheme("gumbel-h2", slot_key=KEY, key_line=MASTER_LINE), TypeError, "one way"),
    "half a key": (lambda: Scheme("gumbel-h2", slot_key=KEY[:16]), ValueError, "16 bytes"),
    "a key as text": (lambda: Scheme("gumbel-h2", key_line=MASTER_LINE.decode()), TypeError, "key_file="),
    "a number as key": (lambda: Scheme("gumbel-h2", slot_key=32), TypeError, "int"),
    "a decoy slot": (lambda: Scheme("gumbel-h2", key_line=MASTER_LINE, slot=33), ValueError, "decoy slot"),
    "an account of a provider": (lambda: Scheme("gumbel-h2", slot_key=KEY, account=3), ValueError, "account"),
    "a missing key file": (lambda: Scheme("gumbel-h2", key_file="/nowhere/k"), FileNotFoundError, "/nowhere/k"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_a_word_on_what_to_do(name: str) -> None:
    call, kind, words = BAD[name]
    before = LOGITS.copy()
    with pytest.raises(kind, match=words):
        call()
    np.testing.assert_array_equal(LOGITS, before)
    # Nothing is left in a bad state.
    GREEN.bias_(fresh(), WINDOWS)


def test_refused_logits_are_unchanged() -> None:
    logits = np.ones((2, 100), np.float32)
    with pytest.raises(ValueError):
        GREEN.bias_(logits, WINDOWS[:1])
    assert (logits == 1).all()


def test_a_session_is_not_used_by_two_calls_at_once() -> None:
    session = Session(GUMBEL)
    logits = fresh()
    with pytest.raises(ValueError, match="twice"):
        sample_rows([session, session], logits)
    # It is given back after the refusal.
    assert session.sample(flat_model()) >= 0


def test_keys_are_read_from_private_files_and_from_bytes(key_file) -> None:
    path = key_file()
    by_file = Scheme("gumbel-h2", key_file=path, epoch="2026q4")
    assert by_file.key_id == "46e7baa36f456c35"
    for line in (MASTER_LINE, bytearray(MASTER_LINE), memoryview(MASTER_LINE)):
        assert Scheme("gumbel-h2", key_line=line, epoch="2026q4").key_id == by_file.key_id
    assert Scheme("gumbel-h2", key_file=str(path), epoch="2026q4").key_id == by_file.key_id
    os.chmod(path, 0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        Scheme("gumbel-h2", key_file=path)
    with pytest.raises(ValueError, match="not a key"):
        Scheme("gumbel-h2", key_file=key_file(b"hello", name="other"))


def test_profiles_by_name_text_dictionary_and_file(tmp_path) -> None:
    import json

    named = Scheme("greenlist-h1", slot_key=KEY)
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(named.profile))
    for form in (named.profile, json.dumps(named.profile), path):
        other = Scheme(form, slot_key=KEY)
        assert other.profile == named.profile
        np.testing.assert_array_equal(other.fill_masks([[7]], 64), named.fill_masks([[7]], 64))
    with pytest.raises(FileNotFoundError, match="missing.json"):
        Scheme(tmp_path / "missing.json", slot_key=KEY)


def test_no_key_in_any_text(key_file) -> None:
    line = MASTER_LINE
    secrets = [line[17:33].decode(), line[40:56].decode(), KEY.hex()[:16], KEY.hex()[20:40], repr(KEY)[2:30]]
    shown = []
    for key in ({"key_line": line}, {"slot_key": KEY}, {"key_file": key_file()}):
        marked = Scheme("gumbel-h2", **key)
        session = Session(marked)
        session.sample(flat_model())
        detector = Detector(marked)
        detector.push(session.tokens)
        shown += [repr(marked), str(marked), repr(session), repr(detector), repr(detector.result())]
        shown += [str(session.record()), str(detector.result().to_dict()), str(marked.profile)]
        assert not hasattr(marked, "__dict__")
    garbled = line.replace(b"Z5", b"Z6")
    for call in (
        lambda: Scheme("gumbel-h2", key_line=garbled),
        lambda: Scheme("gumbel-h2", key_line=line[:-1]),
        lambda: Scheme("gumbel-h2", slot_key=line),
        lambda: Scheme("gumbel-h2", key_file=key_file(garbled, name="garbled")),
        lambda: Scheme("nothing", key_line=line),
        lambda: Scheme("gumbel-h2", key_line=line, slot=99),
    ):
        try:
            call()
            raise AssertionError("not refused")
        except (ValueError, TypeError) as error:
            # What is raised, not the lines of this file that a traceback quotes.
            shown += traceback.format_exception_only(error)
    text = "\n".join(shown)
    assert not [secret for secret in secrets if secret in text]
