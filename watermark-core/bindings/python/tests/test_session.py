"""A session: decisions change nothing, rollback forgets, every skip has a reason."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from conftest import KEY, flat_model, scheme
from watermark import Detector, Scheme, Session

FLAT = np.ones(8, dtype=np.float32)


def started(profile: str = "gumbel-h2", tokens: tuple[int, ...] = (1, 2, 3), **arguments) -> Session:
    session = Session(scheme(profile), seed=1, **arguments)
    for token in tokens:
        session.accept(token, "marked")
    return session


def test_every_reason_to_skip_is_reached_and_counted() -> None:
    session = Session(scheme("gumbel-h2"), seed=1)
    assert session.decide(FLAT).reason == "partial_context" and session.window is None
    for token in (1, 2, 3):
        session.accept(token, "marked")
    assert session.window == (2, 3)
    assert session.decide(FLAT).marked
    assert session.decide(FLAT, temperature=0.0).reason == "greedy"
    session.accept(1, session.decide(FLAT, temperature=0.0))
    session.accept(2, "disabled")
    assert session.decide(FLAT).reason == "repeated_context"
    session.begin_segment()
    assert session.decide(FLAT).reason == "partial_context"
    session.rollback(1)
    assert session.decide(FLAT).marked
    session.budget = 3
    assert (session.decide(FLAT).reason, session.budget) == ("budget", 3)
    session.enabled = False
    assert session.decide(FLAT).reason == "disabled"
    assert session.counts == {"marked": 3, "greedy": 1}
    assert session.record()["skips"] == [{"at": 3, "len": 1, "reason": "greedy"}]
    gated = dict(Scheme("gumbel-h2", slot_key=KEY).profile, min_entropy=3.0)
    low = Session(Scheme(gated, slot_key=KEY), seed=1)
    for token in (1, 2):
        low.accept(token, "marked")
    assert low.decide(FLAT).reason == "low_entropy"
    assert low.decide(np.ones(200, np.float32)).marked


@pytest.mark.parametrize("profile", ["gumbel-h2", "gumbel-dual-h2", "tournament-h2", "greenlist-h1", "selfhash-h4"])
def test_decisions_are_pure_and_rollback_restores_them(profile: str) -> None:
    session = Session(scheme(profile), seed=9)
    logits = np.sin(np.arange(50, dtype=np.float32) * 0.37)
    for _ in range(30):
        session.sample(logits)
    weights = np.exp(logits)
    first = session.decide(weights)
    assert all(session.decide(weights).token == first.token for _ in range(5))
    record = session.record()
    kept = session.clone()
    for _ in range(20):
        session.sample(logits)
    session.rollback(20)
    assert session.record() == record == kept.record()
    assert session.window == kept.window
    if profile == "gumbel-h2":
        assert session.decide(weights).token == first.token, "nothing is drawn"
    session.reset()
    assert len(session) == 0 and session.record()["tokens"] == []


def test_coins_come_from_the_seed_and_are_not_drawn_twice() -> None:
    marked = scheme("gumbel-dual-h2")

    def text(seed: int, stream: int = 0) -> list[int]:
        session = Session(marked, seed=seed, stream=stream)
        return [session.sample(flat_model()) for _ in range(40)]

    assert text(1) == text(1)
    assert text(1) != text(2) and text(1) != text(1, 1)
    assert Session(marked).clone().record() == Session(marked).record()
    # Two keys: what is written after a rollback is drawn anew. 40 positions, each alike with probability 1/2 at least.
    session = Session(marked, seed=3)
    for _ in range(10):
        session.sample(flat_model())
    once = [session.sample(flat_model()) for _ in range(40)]
    session.rollback(40)
    assert [session.sample(flat_model()) for _ in range(40)] != once
    twin = session.clone()
    other = session.clone(stream=77)
    ahead = [session.sample(flat_model()) for _ in range(40)]
    assert [twin.sample(flat_model()) for _ in range(40)] == ahead
    assert [other.sample(flat_model()) for _ in range(40)] != ahead


def test_marking_logits_is_deciding_and_writing() -> None:
    session = started()
    logits = flat_model(50)
    decided = session.decide(np.exp(logits))
    row = logits.copy()
    written = session.mark_(row)
    assert written.token == decided.token is not None
    assert np.isneginf(np.delete(row, written.token)).all() and row[written.token] == 0
    strided = np.repeat(logits, 2)[::2]
    assert session.mark_(strided).token == written.token
    np.testing.assert_array_equal(strided, row)
    # Temperature and truncation come first: with one candidate left, it is that one.
    one = logits.copy()
    assert session.mark_(one, top_k=1).token == 0
    # A skipped row stays.
    untouched = logits.copy()
    assert Session(scheme("gumbel-h2")).mark_(untouched).reason == "partial_context"
    assert session.mark_(untouched, temperature=0.0).reason == "greedy"
    np.testing.assert_array_equal(untouched, logits)


def test_a_green_list_is_biased_in_the_units_of_what_comes_after() -> None:
    session = started("greenlist-h1")
    marked = session.scheme
    logits = flat_model(40_000)
    mask = marked.fill_masks([list(session.window or ())], 40_000)[0]
    green = np.unpackbits(mask.view(np.uint8), bitorder="little")[:40_000].astype(bool)
    for temperature, bonus in [(1.0, 3.0), (0.5, 1.5), (2.0, 6.0), (0.0, 3.0)]:
        row = logits.copy()
        decision = session.mark_(row, temperature=temperature)
        assert decision.marked and decision.token is None
        np.testing.assert_array_equal(row, logits + np.float32(bonus) * green)
    strict = dict(marked.profile, repeated_contexts="skip")
    again = Session(Scheme(strict, slot_key=KEY))
    for token in (5, 6, 5):
        again.accept(token, "marked")
    row = logits.copy()
    assert again.mark_(row).reason == "repeated_context"
    np.testing.assert_array_equal(row, logits)


def test_an_engine_that_samples_marked_rows_itself_writes_the_mark() -> None:
    """The engine draws from the row that it is given; the detector finds it. p < 1e-20, as in the other tests."""
    rng = np.random.default_rng(5)
    for profile in ("greenlist-h1", "gumbel-dual-h2", "tournament-h2"):
        session = Session(scheme(profile), seed=4)
        for _ in range(400):
            row = flat_model().copy()
            decision = session.mark_(row)
            weights = np.exp(row - row.max(), dtype=np.float64)
            session.accept(int(rng.choice(len(row), p=weights / weights.sum())), decision)
        detector = Detector(scheme(profile))
        detector.push(session.tokens)
        assert detector.result().log10_p < -20, profile


def test_copies_and_pickles() -> None:
    marked = scheme()
    assert copy.copy(marked) is marked and copy.deepcopy({"a": marked})["a"] is marked
    session = started("gumbel-dual-h2")
    other = copy.deepcopy(session)
    other.accept(4, "marked")
    assert len(session) == 3 and len(other) == 4
    for thing in (marked, session):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(thing)


def test_wrong_outcomes_and_tokens() -> None:
    session = started()
    with pytest.raises(ValueError, match="partial_context"):
        session.accept(1, "because")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Decision"):
        session.accept(1, 7)  # type: ignore[arg-type]
    for token in (-1, 2**32):
        with pytest.raises(ValueError, match="not a token id"):
            session.accept(token, "marked")
    with pytest.raises(ValueError, match="no candidate"):
        session.sample(np.full(8, -np.inf, np.float32))
    with pytest.raises(ValueError, match="no candidate"):
        session.mark_(np.full(8, np.nan, np.float32))
    assert len(session) == 3
    for arguments in ({"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 2.0}):
        with pytest.raises(ValueError):
            session.sample(FLAT, **arguments)
    with pytest.raises(OverflowError):
        session.sample(FLAT, top_k=-1)
