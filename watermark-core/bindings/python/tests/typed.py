"""Checked by mypy in strict mode, not run: the types that a user sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import watermark
from numpy.typing import NDArray
from typing_extensions import assert_type
from watermark import Coins, Decision, Detection, Detector, Pool, Scheme, Session, distill, sample_rows

scheme = Scheme("greenlist-h2", key_file=Path("k.key"), epoch="2026q4", slot=0)
logits: NDArray[np.float32] = np.zeros((2, 100), dtype=np.float32)
windows: NDArray[np.uint32] = np.zeros((2, 2), dtype=np.uint32)

assert_type(scheme.fill_masks(windows, 100), NDArray[np.uint32])
scheme.bias_(logits, [[1, 2], [3, 4]], pool=Pool(2))
assert_type(scheme.select(logits, windows, Coins(1)), NDArray[np.uint32])
assert_type(scheme.delta, float | None)

session = Session(scheme, seed=1)
decision = session.decide(logits[0])
assert_type(decision, Decision)
session.accept(3, decision)
session.accept(3, "marked")
session.accept(3, "greedy")
session.accept(3, "for fun")  # type: ignore[arg-type]
assert_type(session.sample(logits[0], temperature=0.7), int)
assert_type(sample_rows([session], logits[:1]), NDArray[np.uint32])

detector = Detector(scheme)
detector.push([1, 2, 3])
detector.push(np.array([1, 2, 3]))
detector.push("text")  # type: ignore[arg-type]
assert_type(detector.result(), Detection)
assert_type(detector.result().ln_p, float)
assert_type(watermark.__version__, str)
report = distill("greenlist-h1", [[1, 2, 3]], key_file="k.key", decoys=0)
assert_type(report["verdict"], object)  # type: ignore[assert-type]
