"""The interpreter lock is released: another thread runs Python while a call works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from conftest import MASTER_LINE, scheme
from watermark import Coins, Detector, Session, distill, sample_rows

RNG = np.random.default_rng(3)
ENOUGH = 20


def heavy() -> dict:
    green, selfhash, dual, tournament = (
        scheme(name) for name in ("greenlist-h2", "selfhash-h4", "gumbel-dual-h2", "tournament-h2")
    )
    text = RNG.integers(0, 30_000, 1_500_000).astype(np.uint32)
    read = Detector(green)
    read.push(text)
    logits = np.zeros((64, 100_000), np.float32)
    windows = RNG.integers(0, 30_000, (64, 4)).astype(np.uint32)
    many = RNG.integers(0, 30_000, (10_000, 2)).astype(np.uint32)
    weights = np.ones((30, 100_000), np.float32)
    sessions = [Session(tournament, seed=row) for row in range(64)]
    return {
        "bias_": lambda: selfhash.bias_(logits, windows),
        "fill_masks": lambda: green.fill_masks(many, 30_000),
        "select": lambda: tournament.select(weights, many[:30], Coins(1)),
        "words": lambda: dual.words(many[:4], 2_000_000, lane="gumbel"),
        "sample_rows": lambda: sample_rows(sessions, logits, top_p=0.9),
        "push": lambda: Detector(green).push(text),
        "result": lambda: read.result(),
        "distill": lambda: distill(
            "greenlist-h2", [text[:20_000]], key_line=MASTER_LINE, decoys=40, tests=["closed-cells"]
        ),
    }


CALLS = heavy()


def most_ticks(call: Callable[[], object], rounds: int) -> int:
    """The most ticks of another thread in the middle half of a call, over some rounds."""
    most = 0
    for _ in range(rounds):
        ticks, span, done = [], [], threading.Event()

        def work() -> None:
            begin = time.perf_counter()
            call()
            span.extend((begin, time.perf_counter()))
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        while not done.is_set():
            ticks.append(time.perf_counter())
        worker.join()
        begin, end = span
        quarter = 0.25 * (end - begin)
        most = max(most, sum(begin + quarter < tick < end - quarter for tick in ticks))
        if most >= ENOUGH:
            break
    return most


@pytest.mark.parametrize("name", CALLS)
def test_python_runs_while_a_call_works(name: str) -> None:
    """With the lock held, no tick could fall into the middle of the call: the ticking thread would stand still from
    before its start until after its end. Without, it ticks about a million times a second, if it gets a core."""
    call = CALLS[name]
    call()
    assert most_ticks(call, 5) >= ENOUGH


def test_a_call_that_holds_the_lock_is_noticed() -> None:
    numbers = RNG.integers(0, 2**60, 1_000_000).tolist()
    assert most_ticks(lambda: sorted(numbers), 2) < ENOUGH


def test_one_scheme_serves_many_threads() -> None:
    green = scheme("greenlist-h2")
    windows = RNG.integers(0, 1000, (8, 2)).astype(np.uint32)
    expected = green.fill_masks(windows, 50_000)
    wrong = []

    def work() -> None:
        for _ in range(30):
            if not np.array_equal(green.fill_masks(windows, 50_000), expected):
                wrong.append(True)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
