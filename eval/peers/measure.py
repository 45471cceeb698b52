"""What is timed, and the clock: CPU time of this process, in which torch has one thread."""
import gc
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import torch

SMALL, LARGE = 32_000, 128_000
CONTEXTS = 4096      # distinct contexts, used in turn
TOKEN_IDS = 50_000   # texts for detectors draw their ids below this, as the toolkit's own benchmark does
LONGEST = 131_072    # tokens a detector reads at most


@dataclass
class Operation:
    """One table: an operation and the key of our own number for it."""
    id: str
    title: str
    ours: str
    unit: str  # "us" a step or "tok/s"


OPERATIONS = [
    Operation("green-32k", "Green list, one whole step, 32,000 tokens, gamma 1/2, h = 1", "greenStepUs32k", "us"),
    Operation("green-128k", "Green list, one whole step, 128,000 tokens, gamma 1/2, h = 1", "greenStepUs128k", "us"),
    Operation("quarter-128k", "Green list, one whole step, 128,000 tokens, gamma 1/4, h = 1", "greenQuarterUs128k", "us"),
    Operation("selfhash-32k", "Self-hash, the 40 best candidates of 32,000 (ours: given the 40)", "selfHash40Us", "us"),
    Operation("selfhash-128k", "Self-hash, the 40 best candidates of 128,000 (ours: given the 40)", "selfHash40Us", "us"),
    Operation("gumbel-128k", "Gumbel, one choice among 128,000 tokens", "gumbelVocabUs128k", "us"),
    Operation("gumbel-50", "Gumbel, one choice among 50 candidates", "gumbel50Us", "us"),
    Operation("gumbel-50-of-128k", "Gumbel, the best 50 of 128,000 found first (ours: given the 50)", "gumbel50Us", "us"),
    Operation("synthid-128k", "SynthID tournament, depth 30, 128,000 tokens", "tournamentVocabUs128k", "us"),
    Operation("synthid-50", "SynthID tournament, depth 30, 50 candidates", "tournament50Us", "us"),
    Operation("synthid-50-of-128k", "SynthID tournament, depth 30, the best 50 of 128,000 found first (ours: given the 50)", "tournament50Us", "us"),
    Operation("read-green", "Detector, green list (ours: h = 4, each cell once, exact p)", "detectTokensPerCoreSecond", "tok/s"),
    Operation("read-gumbel", "Detector, Gumbel (ours: h = 4, each cell once, exact p)", "detectGumbelTokensPerCoreSecond", "tok/s"),
    Operation("read-synthid", "Detector, SynthID, depth 30 (ours: h = 4, each cell once, exact p)", "detectTournamentTokensPerCoreSecond", "tok/s"),
]


@dataclass
class Step:
    """`call(i)` is one step on the i-th context; `before(i)`, if any, runs outside the clock."""
    call: Callable[[int], Any]
    check: Callable[[], None]
    before: Callable[[int], Any] | None = None


@dataclass
class Reader:
    """`detect(prepare(tokens))` returns how many tokens it scored; `prepare` runs outside the clock."""
    detect: Callable[[Any], int]
    prepare: Callable[[list[int]], Any] = lambda tokens: tokens


def weights(size: int) -> torch.Tensor:
    """Probabilities that fall off as 1/rank in shuffled order, shape (1, size)."""
    ranks = torch.arange(size, dtype=torch.float64) * 7919 % size
    values = 1.0 / (1.0 + ranks)
    return (values / values.sum()).to(torch.float32).unsqueeze(0)


def logits(size: int) -> torch.Tensor:
    return weights(size).log()


def contexts(width: int) -> list[torch.Tensor]:
    """Distinct contexts of shape (1, width) that differ in the last token."""
    return [torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8][: width - 1] + [10 + i]]) for i in range(CONTEXTS)]


def text(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(10, TOKEN_IDS, length).tolist()


def time_step(step: Step, seconds: float) -> float:
    """Median CPU time of a call in microseconds."""
    samples, spent, i = [], 0.0, 0
    batch = 1
    wall = time.perf_counter() + 20.0
    gc.disable()
    try:
        while (len(samples) < 3 or spent < seconds) and (len(samples) < 1 or time.perf_counter() < wall):
            if step.before is not None:
                step.before(i)
            start = time.process_time()
            for j in range(i, i + batch):
                step.call(j % CONTEXTS)
            took = time.process_time() - start
            i += batch
            spent += took
            samples.append(took / batch * 1e6)
            if step.before is None and batch == 1 and took < 5e-4:
                batch, samples = max(2, int(1e-3 / max(took, 1e-6))), []
    finally:
        gc.enable()
    return statistics.median(samples)


def read_once(reader: Reader, length: int, seed: int) -> float:
    """CPU seconds to read a fresh text of that length."""
    prepared = reader.prepare(text(length, seed))
    gc.collect()
    start = time.process_time()
    scored = reader.detect(prepared)
    took = max(time.process_time() - start, 1e-7)
    if scored < 0.8 * length:
        raise RuntimeError(f"only {scored} of {length} tokens were scored")
    return took


def fitting_length(reader: Reader, seconds: float) -> int:
    """The power of two whose reading takes about that long. Imports, tables and compilation happen here."""
    length = 256
    while True:
        read_once(reader, length, 10_001)
        took = read_once(reader, length, 10_002)
        if length >= LONGEST or took >= seconds / 2:
            return length
        length = min(length << max(1, min(4, int(math.log2(seconds / took)))), LONGEST)


def time_reader(reader: Reader, length: int, seed: int) -> float:
    """Tokens read a CPU second."""
    return length / read_once(reader, length, seed)
