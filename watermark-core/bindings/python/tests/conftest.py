"""Keys of the tests, and a "model": logits that are the same at every step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from watermark import Scheme, Session

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
MASTER_LINE = b"WMK-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SMGH5Z5"
"""The master key of the vectors, 00 01 .. 1f: public, and good for nothing."""

VECTORS = Path(__file__).resolve().parents[3] / "testdata" / "vectors" / "wmk1.json"


def scheme(profile: str = "gumbel-dual-h2", key: bytes = KEY) -> Scheme:
    return Scheme(profile, slot_key=key)


def flat_model(vocabulary: int = 500) -> NDArray[np.float32]:
    return -np.arange(vocabulary, dtype=np.float32) / 100


def write(profile: str, tokens: int, *, key: bytes = KEY, seed: int = 1) -> NDArray[np.uint32]:
    session = Session(scheme(profile, key), seed=seed)
    logits = flat_model()
    for _ in range(tokens):
        session.sample(logits)
    return session.tokens


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., Path]:
    def make(line: bytes = MASTER_LINE, mode: int = 0o600, name: str = "k.key") -> Path:
        path = tmp_path / name
        path.write_bytes(line + b"\n")
        os.chmod(path, mode)
        return path

    return make
