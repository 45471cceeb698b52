"""What a call from Python costs beside the work that it starts.

A batch of B rows takes `call + B * row`: `row` is Rust alone, `call` is what crossing from Python adds, once. Both are
fitted to the fastest of many rounds at two sizes, both of which fit in the nearer caches. Printed: one call of one row, Rust's share of it, and their ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from watermark import Coins, Scheme, Session

RNG = np.random.default_rng(1)
KEY = bytes(range(32))


def fastest(call: Callable[[], object], budget: float = 1.0) -> float:
    """Seconds a call, of the fastest round: the machine may be doing other things."""
    call()
    best, spent, calls = float("inf"), 0.0, 1
    while spent < budget:
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        taken = time.perf_counter() - begin
        best, spent = min(best, taken / calls), spent + taken
        if taken < 2e-3:
            calls *= 2
    return best


def line(name: str, one: float, rust: float) -> None:
    print(f"{name:<44} {one * 1e6:9.2f} us  Rust {rust * 1e6:9.2f} us  ratio {one / rust:5.2f}")


def bias(profile: str, vocabulary: int) -> None:
    scheme = Scheme(profile, slot_key=KEY)
    logits = np.zeros((2, vocabulary), np.float32)
    windows = RNG.integers(0, vocabulary, (2, scheme.context_width)).astype(np.uint32)
    one = fastest(lambda: scheme.bias_(logits[:1], windows[:1]))
    two = fastest(lambda: scheme.bias_(logits, windows))
    line(f"bias_, {profile}, 1 x {vocabulary}", one, two - one)


def select(profile: str, candidates: int) -> None:
    scheme = Scheme(profile, slot_key=KEY)
    rows = 65
    weights = RNG.exponential(size=(rows, candidates)).astype(np.float32)
    tokens = RNG.integers(0, 128_000, (rows, candidates)).astype(np.uint32)
    windows = RNG.integers(0, 128_000, (rows, scheme.context_width)).astype(np.uint32)
    coins = Coins(1)
    one = fastest(lambda: scheme.select(weights[:1], windows[:1], coins, tokens=tokens[:1]))
    many = fastest(lambda: scheme.select(weights, windows, coins, tokens=tokens))
    line(f"select, {profile}, 1 x {candidates}", one, (many - one) / (rows - 1))


def decide(profile: str, candidates: int) -> None:
    session = Session(Scheme(profile, slot_key=KEY), seed=1)
    for token in range(5):
        session.accept(token, "marked")
    weights = RNG.exponential(size=candidates).astype(np.float32)
    tokens = np.arange(candidates, dtype=np.uint32)
    one = fastest(lambda: session.decide(weights, tokens))
    print(f"{f'Session.decide, {profile}, {candidates}':<44} {one * 1e6:9.2f} us")


if __name__ == "__main__":
    bias("greenlist-h2", 128_000)
    bias("greenlist-h2", 32_000)
    select("gumbel-h2", 50)
    select("gumbel-dual-h2", 50)
    decide("gumbel-h2", 50)
