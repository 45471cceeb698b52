"""A step costs no memory: not Python's, and not the process's."""

from __future__ import annotations

import resource
import tracemalloc

import numpy as np
import pytest
from conftest import scheme
from watermark import Pool, Session

VOCABULARY = 32_000


def steps() -> dict:
    green = scheme("greenlist-h2")
    logits = np.zeros((4, VOCABULARY), np.float32)
    windows = np.arange(8, dtype=np.uint32).reshape(4, 2)
    masks = np.zeros((4, VOCABULARY // 32), np.uint32)
    row = np.zeros(VOCABULARY, np.float32)
    weights = np.ones(VOCABULARY, np.float32)
    session = Session(scheme("gumbel-h2"), seed=1)
    for token in (1, 2, 3):
        session.accept(token, "marked")
    pool = Pool(2)
    return {
        "bias_": lambda: green.bias_(logits, windows),
        "bias_ on a pool": lambda: green.bias_(logits, windows, pool=pool),
        "fill_masks into out": lambda: green.fill_masks(windows, VOCABULARY, out=masks),
        "mark_": lambda: session.mark_(row),
        "decide": lambda: session.decide(weights),
    }


STEPS = steps()


@pytest.mark.parametrize("name", STEPS)
def test_a_step_leaves_no_memory_behind(name: str) -> None:
    """tracemalloc sees Python and numpy, the resident size the rest. A leak of one float a row and step would be 6 KB,
    a copy of one row 128 KB at the peak; a leaked row 38 MB of resident size."""
    step = STEPS[name]
    for _ in range(50):
        step()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(300):
        step()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 2048 and peak - before < 8192
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 8192, "kilobytes"
