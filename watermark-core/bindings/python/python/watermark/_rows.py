"""What the engines' adapters share: a sequence that an engine writes, told to a session. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._watermark import Decision, Scheme, Session

Unmarked = Literal["disabled", "greedy"]
"""Why an adapter leaves a row alone without asking its session."""

GREEDY = 1e-5
"""Engines decode greedily at temperatures below this."""


class History(RuntimeError):
    """The tokens of a row did not grow as they do in ordinary sampling."""


class Row:
    """One sequence: its session, and the decision that waits for the token it led to."""

    def __init__(self, scheme: Scheme, *, seed: int | None = None, stream: int = 0) -> None:
        self.session = Session(scheme, seed=seed, stream=stream)
        self._decision: Decision | None = None
        self._reason: Unmarked = "disabled"

    def accept(self, token: int) -> None:
        """Takes in one token of the engine's; marked only if it is the one that was decided on."""
        decision, self._decision = self._decision, None
        if decision is None:
            self.session.accept(token, self._reason)
        elif decision.token is not None and decision.token != token:
            # Something after the mark had the last word: a forced end, a thinking budget.
            self.session.accept(token, "replaced")
        else:
            self.session.accept(token, decision)
        self._reason = "disabled"

    def follow(self, tokens: Sequence[int]) -> None:
        """Takes in what is new in ``tokens``, all that the sequence has so far; fewer tokens than before were taken
        back by the engine."""
        known = len(self.session)
        if len(tokens) < known:
            self.session.rollback(known - len(tokens))
            self._decision = None
        for token in tokens[known:]:
            self.accept(int(token))

    def mark(
        self,
        logits: NDArray[np.float32],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
    ) -> Decision:
        """Writes the mark into a row of logits. Engines' conventions: ``top_k`` of 0 or -1 keeps all."""
        if min_p > 0.0 and not self.session.scheme.is_bias:
            decision = self._mark_truncated(logits, temperature, top_p, top_k, min_p)
        else:
            decision = self.session.mark_(
                logits, temperature=temperature, top_p=top_p, top_k=max(top_k, 0)
            )
        self._decision = decision
        return decision

    def _mark_truncated(
        self, logits: NDArray[np.float32], temperature: float, top_p: float, top_k: int, min_p: float
    ) -> Decision:
        # A token stays if its probability is at least min_p times the largest: a bound on logits.
        bound = logits.max() + np.float32(temperature * math.log(min_p))
        kept = np.where(logits >= bound, logits, np.float32(-np.inf))
        decision = self.session.mark_(kept, temperature=temperature, top_p=top_p, top_k=max(top_k, 0))
        if decision.marked:
            logits[:] = kept
        return decision

    def skip(self, reason: Unmarked) -> None:
        """The next token is not marked, for this reason."""
        self._decision = None
        self._reason = reason


class Generation:
    """The rows of one call that samples ordinarily: every step adds one token to each."""

    def __init__(self, scheme: Scheme, *, seed: int | None = None) -> None:
        self._scheme = scheme
        self._seed = seed
        self.rows: list[Row] = []
        self._prompt = 0
        self._told: NDArray[Any] | None = None

    def step(self, ids: NDArray[Any], scores: NDArray[np.float32]) -> None:
        """Marks ``scores`` [rows, vocabulary] in place; ``ids`` [rows, length] are prompt and text so far."""
        if ids.ndim != 2 or scores.ndim != 2 or ids.shape[0] != scores.shape[0]:
            raise History(
                f"input_ids {ids.shape} and scores {scores.shape} are not one row a sequence: continuous batching and "
                "packed inputs cannot be marked, since a row of them is not a sequence"
            )
        if self._told is None:
            self._prompt = ids.shape[1]
            self.rows = [Row(self._scheme, seed=self._seed, stream=row) for row in range(ids.shape[0])]
        else:
            self._check(ids)
            for row, token in zip(self.rows, ids[:, -1], strict=True):
                row.accept(int(token))
        self._told = ids[:, self._prompt :].copy()
        for row, row_scores in zip(self.rows, scores, strict=True):
            row.mark(row_scores)

    def _check(self, ids: NDArray[Any]) -> None:
        assert self._told is not None
        before = self._told
        generated = ids[:, self._prompt :]
        if ids.shape[0] != before.shape[0]:
            raise History(f"the batch had {before.shape[0]} rows and now has {ids.shape[0]}: a row must stay one sequence")
        if generated.shape[1] != before.shape[1] + 1:
            raise History(
                f"a step came to {generated.shape[1]} new tokens after {before.shape[1]}: assisted and speculative "
                "generation ask for several candidates and keep some, and the mark cannot tell which; switch it off"
            )
        if not np.array_equal(generated[:, :-1], before):
            raise History(
                "a row's earlier tokens changed: beam search moves rows about and picks by score, which removes a mark "
                "of chosen tokens and biases a green list; use num_beams=1"
            )
