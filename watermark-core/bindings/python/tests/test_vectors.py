"""The committed vectors: what the reference implementation says is what the wheel says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import MASTER_LINE, VECTORS
from watermark import Detector, Scheme

DATA = json.loads(VECTORS.read_text())
ROWS = DATA["rows"]


def bound(row: dict) -> Scheme:
    return Scheme(row["profile"], slot_key=bytes.fromhex(row["slot_key"]), account=row.get("account", 0))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['profile']['scheme']['type']}-{len(row['window'])}")
def test_seeds_scores_and_masks(row: dict) -> None:
    scheme = bound(row)
    window = np.array([row["window"]], dtype=np.uint32).reshape(1, scheme.context_width)
    seeds = [bytes(seed).hex() for seed in scheme.row_seeds(window)[0]]
    assert seeds == row["row_seeds"]
    tokens = np.array([token["token"] for token in row["tokens"]], dtype=np.uint32)
    scores = scheme.scores(np.repeat(window, len(tokens), axis=0), tokens)
    assert scores.tolist() == [token["score"] for token in row["tokens"]]
    if row["mask"] is None:
        assert not scheme.is_bias
    else:
        assert scheme.fill_masks(window, 128)[0].tolist() == row["mask"]


PROVIDER = [row for row in ROWS if row["profile"]["slot"] == "provider"]


@pytest.mark.parametrize("row", PROVIDER, ids=lambda row: f"{row['profile']['scheme']['type']}-{len(row['window'])}")
def test_words(row: dict) -> None:
    scheme = bound(row)
    kind = row["profile"]["scheme"]["type"]
    if kind == "greenlist-selfhash":
        pytest.skip("which of the seeds is read depends on the token: scores and masks say it")
    window = np.array([row["window"]], dtype=np.uint32).reshape(1, scheme.context_width)
    lane = {"greenlist": "green", "gumbel": "gumbel", "gumbel-dual": "gumbel", "tournament": "tournament"}[kind]
    bits = 32
    if kind == "greenlist":
        gamma = row["profile"]["scheme"]["gamma"]
        bits = next((b for b in (1, 2, 4, 8) if (gamma * 2**b).is_integer()), 16)
    words = scheme.words(window, 128_000, lane=lane)[0]
    checked = 0
    for token in row["tokens"]:
        at = token["token"] * bits
        if at // 32 < words.shape[1]:
            found = [int(of_seed[at // 32]) >> (at % 32) & (2**bits - 1) for of_seed in words]
            # Layers from 32 are other streams of the same seed.
            assert found == token["words"][: len(found)]
            checked += 1
    assert checked >= 9


@pytest.mark.parametrize("exhibit", DATA["exhibits"], ids=lambda exhibit: f"h{exhibit['context_width']}")
def test_exhibits(exhibit: dict) -> None:
    detector = Detector(bound(exhibit))
    for prompt in exhibit["exclude"]:
        detector.exclude(prompt)
    for segment in exhibit["segments"]:
        detector.push(segment)
    result = detector.result()
    assert result.cells_digest == exhibit["cells_digest"]
    assert result.counts["cells"] == len(exhibit["cells"])
    assert int(result.to_dict()["test"]["sum"]) == exhibit["sum"]


@pytest.mark.parametrize("case", DATA["key_lines"], ids=lambda case: case["case"])
def test_key_lines(case: dict) -> None:
    line = case["line"].encode()
    if "key_id" not in case:
        with pytest.raises(ValueError) as refused:
            Scheme("gumbel-h2", key_line=line)
        data = case["line"].strip()
        parts = [data[start : start + 12] for start in range(17, len(data) - 12, 12)]
        assert not [part for part in parts if part in str(refused.value)]
        return
    scheme = Scheme("gumbel-h2", key_line=line)
    if case["kind"] == "slot":
        assert scheme.key_id == case["key_id"]


@pytest.mark.parametrize("slot", DATA["slots"], ids=lambda slot: f"{slot['epoch']}/{slot['index']}")
def test_slots(slot: dict) -> None:
    scheme = Scheme("gumbel-h2", slot_key=bytes.fromhex(slot["slot_key"]), epoch=slot["epoch"], slot=slot["index"])
    assert scheme.key_id == slot["slot_key_id"]
    if slot["index"] < 33:
        derived = Scheme("gumbel-h2", key_line=MASTER_LINE, epoch=slot["epoch"], slot=slot["index"])
        assert derived.key_id == slot["slot_key_id"]


@pytest.mark.parametrize("bad", DATA["bad_profiles"], ids=lambda bad: bad["names"])
def test_bad_profiles_name_the_field(bad: dict) -> None:
    if not bad["json"].lstrip().startswith("{"):
        with pytest.raises(ValueError):
            Scheme(bad["json"], slot_key=bytes(32))
        return
    with pytest.raises(ValueError, match=bad["names"]):
        Scheme(bad["json"], slot_key=bytes(32))
