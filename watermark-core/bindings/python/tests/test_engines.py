"""Marks of engines: what their own code chose is what the wheel chooses; a configuration and a scheme from one key agree."""

from __future__ import annotations

import hashlib
import json
import os
import stat

import numpy as np
import pytest
from conftest import KEY, MASTER_LINE, VECTORS, flat_model
from watermark import Coins, Detector, Scheme, Session, distill
from watermark.engines import compatible_profiles, read_config, write_config, write_key

MASTER = {"key_line": MASTER_LINE, "epoch": "2026q4"}
SIZED = [name if "kgw" not in name and "bricks-green" not in name else f"{name}:500" for name in compatible_profiles()]


def weights(label: str, size: int) -> np.ndarray:
    """Logits in eighths that the vectors name by a label."""
    digests = (hashlib.sha256(f"{label}/{index}".encode()).digest() for index in range(size))
    logits = np.array([int.from_bytes(digest[:8], "little") % 80 / 8 for digest in digests], np.float32)
    return np.exp(logits - 10, dtype=np.float32)


def test_tokens_are_those_that_vllm_chose() -> None:
    """Its own code's choices, from the committed vectors; none is equal by chance (1 in 2000)."""
    choices = json.loads(VECTORS.with_name("compat-vllm.json").read_text())["choices"]
    checked = 0
    for choice in choices[::10]:
        width = len(choice["context"])
        profile = dict(Scheme("vllm-gumbel", **MASTER).profile, scheme={"type": "gumbel", "context_width": width})
        key = json.dumps({"schema": "watermark.engine-key/1", "function": "vllm", "key": choice["key"]}).encode()
        scheme = Scheme(profile, key_line=key)
        drawn = scheme.select(weights(choice["label"], choice["size"])[None], [choice["context"]], Coins(1))
        assert int(drawn[0]) == choice["chosen"]
        checked += 1
    assert checked == 20


@pytest.mark.parametrize("profile", ["vllm-gumbel", "vllm-dual-key-gumbel", "sglang-gumbel", "sglang-dual-key-gumbel"])
def test_a_configuration_and_a_reader_come_from_one_slot(tmp_path, profile: str) -> None:
    """H0: text and key independent. Text under the slot: p < 1e-10 (an engine's p ends at what its key can carry); under
    another slot above 1e-4; four profiles, fixed seeds."""
    path, key = tmp_path / "engine.json", tmp_path / "engine.key"
    name = write_config(profile, path, **MASTER)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert write_key(profile, key, **MASTER) == name
    config = read_config(path)
    held = json.loads(key.read_text())
    integers = held["key"] if isinstance(held["key"], list) else [held["key"]]
    if profile.startswith("vllm"):
        assert config["key"] == int(integers[0])
        assert config["algorithm"] == ("dual_key_gumbel" if "dual" in profile else "gumbel")
        assert config["context_width"] == 4 and config["prf"] == "philox"
    else:
        assert [int(config[field], 16) for field in ("key", "key_b")[: len(integers)]] == [int(i) for i in integers]
        assert config["context_window"] == 4
    by_slot, by_key = Scheme(profile, **MASTER), Scheme(profile, key_file=key)
    session = Session(by_slot, seed=2)
    for _ in range(400):
        session.sample(flat_model())
    results = []
    for reader in (by_slot, by_key, Scheme(profile, **{**MASTER, "slot": 1})):
        detector = Detector(reader)
        detector.push(session.tokens)
        results.append(detector.result().log10_p)
    assert results[0] == results[1] < -9
    assert results[2] > -4
    assert by_key.key_id == name


@pytest.mark.parametrize("profile", SIZED)
def test_every_profile_has_a_configuration(tmp_path, profile: str) -> None:
    path = tmp_path / "config.json"
    write_config(profile, path, slot_key=KEY)
    assert read_config(path)
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_config(profile, path, slot_key=KEY)
    scheme = Scheme(profile, slot_key=KEY)
    with pytest.raises(ValueError, match="wmk1"):
        scheme.words(np.zeros((1, scheme.context_width), np.uint32), 4, lane="gumbel")


def test_an_engines_key_has_decoys_that_anyone_can_make(key_file) -> None:
    line = b'{"schema": "watermark.engine-key/1", "function": "vllm", "key": "1234567890123456789"}'
    path = key_file(line, name="engine.key")
    session = Session(Scheme("vllm-gumbel", key_file=path), seed=1)
    for _ in range(300):
        session.sample(flat_model())
    found = distill("vllm-gumbel", [session.tokens], key_file=path, decoys=50)
    cells = found["report"]["findings"][0]
    assert found["verdict"] == "rejected" and (cells["decoys"]["rank"], cells["decoys"]["of"]) == (1, 51)


def test_what_does_not_fit_is_refused_and_no_key_is_shown(tmp_path, key_file) -> None:
    secret = "1234567890123456789"
    vllm = f'{{"schema": "watermark.engine-key/1", "function": "vllm", "key": "{secret}"}}'.encode()
    shown = []
    for call, match in [
        (lambda: write_config("gumbel-h2", tmp_path / "a", **MASTER), "our own function"),
        (lambda: write_config("sglang-gumbel", tmp_path / "a", key_line=vllm), "same engine"),
        (lambda: Scheme("gumbel-h2", key_line=vllm), "same engine|wmk1"),
        (lambda: Scheme("vllm-gumbel", key_line=vllm, slot=1), "no slots"),
        (lambda: Scheme("vllm-gumbel", key_line=vllm, account=1), "no accounts"),
        (lambda: Scheme("vllm-gumbel", key_line=vllm.replace(b'"}', b'x"}')), "no integer"),
        (lambda: Scheme("vllm-gumbel", key_line=vllm + b"x"), "not an engine key"),
        (lambda: Scheme("hf-kgw-lefthash", slot_key=KEY), "vocabulary_size"),
        (lambda: Scheme("vllm-gumbel", key_file=key_file(vllm, 0o644, "open.key")), None),
    ]:
        with pytest.raises((ValueError, PermissionError), match=match) as refused:
            call()
        shown.append(str(refused.value))
    assert not (tmp_path / "a").exists()
    shown.append(repr(Scheme("vllm-gumbel", key_line=vllm)))
    assert secret not in "\n".join(shown)
    path = tmp_path / "open.json"
    path.write_text(json.dumps({"key": 5}))
    os.chmod(path, 0o644)
    with pytest.raises(PermissionError, match="new key"):
        read_config(path)
    for text in (f'{{"key": {secret}', f"[{secret}]"):
        path.write_text(text)
        os.chmod(path, 0o600)
        with pytest.raises(ValueError) as refused:
            read_config(path)
        assert secret not in str(refused.value)
