"""The logic of the transformers adapter, without torch: `generate` is played by a loop over numpy arrays."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import OTHER_KEY, flat_model, scheme
from watermark import Detector
from watermark._rows import Generation, History

PROMPT = np.array([[7, 8, 9], [7, 8, 10]])


def generate(generation: Generation, steps: int, *, seed: int = 0, override: dict[int, int] | None = None) -> np.ndarray:
    """Ordinary sampling from the scores that come back; `override` forces a token at a step."""
    rng = np.random.default_rng(seed)
    ids = PROMPT.copy()
    for step in range(steps):
        scores = np.tile(flat_model(), (2, 1))
        generation.step(ids, scores)
        weights = np.exp(scores.astype(np.float64))
        tokens = [rng.choice(500, p=row / row.sum()) for row in weights]
        if override and step in override:
            tokens = [override[step]] * 2
        ids = np.concatenate([ids, np.array(tokens)[:, None]], axis=1)
    return ids


def log10_p(profile: str, texts: np.ndarray, key: bytes | None = None) -> float:
    detector = Detector(scheme(profile, key) if key else scheme(profile))
    for text in texts:
        detector.push(text[PROMPT.shape[1] :])
    return detector.result().log10_p


@pytest.mark.parametrize("profile", ["greenlist-h1", "selfhash-h4", "gumbel-h2", "gumbel-dual-h2", "tournament-h2"])
def test_rows_are_marked_by_their_own_generated_tokens(profile: str) -> None:
    """H0: text and key independent. p < 1e-20 under the key; above 1e-4 under another, one look a profile."""
    generation = Generation(scheme(profile), seed=3)
    ids = generate(generation, 250)
    assert log10_p(profile, ids) < -20
    assert log10_p(profile, ids, OTHER_KEY) > -4
    for row, text in zip(generation.rows, ids):
        # The prompt is no part of the session; the last token was not told yet.
        assert row.session.tokens.tolist() == text[3:-1].tolist()
        width = row.session.scheme.context_width
        assert row.session.counts["partial_context"] == width
        assert row.session.counts["marked"] > 200


def test_repeats_are_skipped_and_a_seed_repeats_the_text() -> None:
    generation = Generation(scheme("gumbel-h2"), seed=3)
    ids = generate(generation, 40, override={step: 1 + step % 2 for step in range(10, 30)})
    session = generation.rows[0].session
    # 20 forced tokens: none of them is counted as marked, except where the mark had chosen it too.
    assert session.counts.get("replaced", 0) + session.counts.get("repeated_context", 0) >= 18
    assert session.counts["repeated_context"] > 0
    again = Generation(scheme("gumbel-h2"), seed=3)
    assert np.array_equal(generate(again, 40, override={step: 1 + step % 2 for step in range(10, 30)}), ids)
    assert session.record() == again.rows[0].session.record()


def test_beams_assistants_and_packed_rows_are_refused_with_the_reason() -> None:
    def started() -> tuple[Generation, np.ndarray]:
        generation = Generation(scheme("gumbel-h2"), seed=1)
        return generation, generate(generation, 6)

    scores = np.tile(flat_model(), (2, 1))
    generation, ids = started()
    swapped = ids.copy()
    swapped[:, 3:] = ids[::-1, 3:]
    with pytest.raises(History, match="beam search"):
        generation.step(swapped, scores)
    for width, name in [(ids.shape[1] - 1, "assisted"), (ids.shape[1] + 3, "assisted")]:
        generation, ids = started()
        other = np.pad(ids, ((0, 0), (0, 4)))[:, :width]
        with pytest.raises(History, match=name):
            generation.step(other, scores)
    generation, ids = started()
    with pytest.raises(History, match="now has 4"):
        generation.step(np.repeat(ids, 2, axis=0), np.tile(flat_model(), (4, 1)))
    with pytest.raises(History, match="continuous batching"):
        Generation(scheme("gumbel-h2")).step(np.zeros((1, 9), np.int64), scores)
    assert (scores == flat_model()).all(), "refused rows stay as they were"


def test_minimum_probability_is_applied_before_the_choice() -> None:
    from watermark._rows import Row

    for temperature in (0.5, 1.0, 2.0):
        row = Row(scheme("gumbel-h2"), seed=1)
        row.follow([1, 2, 3])
        logits = np.array([0.0, -0.1, -9.0, -1.0] + [-20.0] * 30, np.float32)
        probabilities = np.exp(logits / temperature)
        kept = np.flatnonzero(probabilities >= 0.3 * probabilities.max())
        seen = set()
        for token in range(1000, 1200):
            row.follow([*row.session.tokens.tolist(), token])
            scores = logits.copy()
            decision = row.mark(scores, temperature=temperature, min_p=0.3)
            assert decision.marked and np.isneginf(np.delete(scores, decision.token)).all()
            seen.add(decision.token)
        # Each kept token has probability 0.1 at least: all are seen in 200 draws but for a chance below 1e-8.
        assert seen == set(kept.tolist())
