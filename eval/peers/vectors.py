#!/usr/bin/env python3
"""Calls the peers' own code and writes what it gives as vectors for the functions of `watermark-core`.

    eval/peers/vectors.py --out DIR [--files DIR]

Needs the packages of requirements.txt: `eval/peers/run` installs them into target/peers, whose Python
runs this (`target/peers/venv/bin/python eval/peers/vectors.py --out watermark-core/testdata/vectors`).
--files is where the wheels of vllm and sglang lie unpacked. Numbers only are written: inputs, outputs, versions.

32-bit floats are written as their bits, keys as decimal strings. Nothing of a peer is copied: it is called.
three_bricks and the repository's synthid-text are on no registry: seeds and bits follow their rule, over torch's lists and
uniforms and the registry's hash.
"""
import argparse
import hashlib
import importlib
import json
import struct
import sys
import types
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent


def bare(name, folder):
    """Registers a package without running its start-up code."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def stand_in(name, **attributes):
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def unpacked(files, name):
    """The folder of a package: files/NAME/NAME as `run` unpacks it, or files/NAME."""
    for folder in (files / name / name, files / name):
        if (folder / "__init__.py").exists() or (folder / "v1").exists() or (folder / "srt").exists():
            return folder
    sys.exit(f"{name} is not unpacked under {files}")


def prepare(files):
    sys.path.append(str(files))
    vllm = unpacked(files, "vllm")
    for name in ("vllm", "vllm.config", "vllm.v1", "vllm.v1.worker", "vllm.v1.worker.gpu", "vllm.v1.worker.gpu.sample"):
        bare(name, vllm.joinpath(*name.split(".")[1:]))
    stand_in("vllm.config.utils", config=lambda cls: cls)
    stand_in("vllm.logger", init_logger=lambda name: None)
    stand_in("vllm.v1.worker.gpu.sample.gumbel", gumbel_sample=None)
    sglang = unpacked(files, "sglang")
    for name in ("sglang", "sglang.srt", "sglang.srt.sampling"):
        bare(name, sglang.joinpath(*name.split(".")[1:]))
    if spec := importlib.util.find_spec("textseal"):
        root = Path(spec.origin).parent
        for name in ("textseal", "textseal.common", "textseal.common.watermark"):
            bare(name, root.joinpath(*name.split(".")[1:]))


def wheel_version(files, name):
    for folder in files.glob(f"**/{name.replace('-', '_')}-*.dist-info"):
        return folder.name.removesuffix(".dist-info").rsplit("-", 1)[1]
    pinned = (Path(__file__).parent / "requirements.txt").read_text().splitlines()
    return next(line.split("==")[1] for line in pinned if line.startswith(f"{name}=="))


def f32_bits(values):
    return [struct.unpack("<I", struct.pack("<f", value))[0] for value in values]


class Numbers:
    """A fixed sequence of numbers, the same on every machine: SHA-256 of a counter."""

    def __init__(self, label):
        self.label, self.count = label, 0

    def below(self, limit):
        digest = hashlib.sha256(f"{self.label}/{self.count}".encode()).digest()
        self.count += 1
        return int.from_bytes(digest[:8], "little") % limit

    def list(self, length, limit):
        return [self.below(limit) for _ in range(length)]


def eighths(numbers, size):
    """Logits in eighths, exact in 32-bit floats."""
    return [numbers.below(80) for _ in range(size)]


def torch_vectors():
    seeds = [0, 1, 15485863, 0xFFFFFFFF, 0x1_0000_0005, 2**64 - 2]
    cases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        integers = torch.randint(0, 2, (1300,), generator=generator).tolist()
        generator.manual_seed(seed)
        uniforms = torch.rand(700, generator=generator)
        generator.manual_seed(seed)
        permutation = torch.randperm(1000, generator=generator).tolist()
        generator.manual_seed(seed)
        large = torch.randperm(1_000_003, generator=generator)
        cases.append({"seed": str(seed), "randint2": "".join(map(str, integers)), "rand": f32_bits(uniforms.tolist())[::7],
                      "randperm_1000": permutation, "randperm_1000003": {"at": list(range(0, 1_000_003, 9973)),
                                                                       "is": large[::9973].tolist()}})
    return {"packages": {"torch": torch.__version__}, "cases": cases}


VLLM_KEYS = [0, 1, 0x1234_5678_9ABC_DEF0, 2**64 - 1]


def vllm_vectors(files):
    from vllm.config.watermarking import derive_watermark_key
    from vllm.v1.watermarking.gumbel import (DualKeyGumbelWatermarkDetector, GumbelWatermarkDetector,
                                             GumbelWatermarker)
    from vllm.v1.watermarking.prfs import PhiloxPRF
    numbers, cases, choices, detections = Numbers("vllm"), [], [], []
    for key in VLLM_KEYS:
        prf = PhiloxPRF(key)
        for width in (1, 2, 3, 4, 5, 8, 9, 11):
            context, tokens = numbers.list(width, 200_000), numbers.list(8, 200_000)
            uniforms = prf.uniform(torch.tensor([context]), torch.tensor([tokens]))[0]
            cases.append({"key": str(key), "context": context, "tokens": tokens, "uniforms": f32_bits(uniforms.tolist())})
    for number in range(200):
        size, width = (50, 4) if number % 2 else (2000, 2)
        key, context = VLLM_KEYS[2 + number % 2], numbers.list(width, 200_000)
        label = f"vllm/choice/{number}"
        logits = torch.tensor([eighths(Numbers(label), size)], dtype=torch.float32) / 8
        mark = GumbelWatermarker(key, width)
        choices.append({"key": str(key), "context": context, "label": label, "size": size,
                        "chosen": int(mark.sample(logits, torch.tensor([context])).token_ids[0])})
    for key in VLLM_KEYS[2:]:
        ids = Numbers(f"vllm/text/{key}").list(400, 300)
        single = GumbelWatermarkDetector(key, 4).detect(ids)
        dual = DualKeyGumbelWatermarkDetector(key, 4, alpha=0.5).detect(ids)
        detections.append({"key": str(key), "key_a": str(derive_watermark_key(key, b"key_a")),
                           "key_b": str(derive_watermark_key(key, b"key_b")), "ids": ids,
                           "single": [single.num_scored_tokens, single.score],
                           "dual": [dual.num_scored_tokens, dual.score]})
    return {"packages": {"vllm": wheel_version(files, "vllm"), "torch": torch.__version__},
            "uniforms": cases, "choices": choices, "detections": detections}


SGLANG_KEYS = ["0", "123456789abcdef0", "ffffffffffffffff", "fedcba98"]


def sglang_vectors(files):
    from sglang.srt.sampling.watermarking import core
    from sglang.srt.sampling.watermarking.config import parse_watermark_key
    from sglang.srt.sampling.watermarking.detector import (WatermarkDetector, hash_context, position_coin,
                                                           watermark_hash)
    numbers, cases, coins, choices, detections = Numbers("sglang"), [], [], [], []
    for key in SGLANG_KEYS:
        for width in (1, 2, 4, 11):
            context, tokens = numbers.list(width, 200_000), numbers.list(8, 200_000)
            hashed = hash_context(context)
            cases.append({"key": key, "context": context, "hash": hashed, "tokens": tokens,
                          "hashes": [watermark_hash(parse_watermark_key(key), hashed, token) for token in tokens]})
            coins.append({"key_a": key, "key_b": SGLANG_KEYS[1], "hash": hashed,
                          "coin": position_coin(parse_watermark_key(key), parse_watermark_key(SGLANG_KEYS[1]), hashed)})
    for number in range(200):
        size, width = (50, 4) if number % 2 else (2000, 2)
        dual = number % 4 > 1
        key, context, label = SGLANG_KEYS[1], numbers.list(width, 200_000), f"sglang/choice/{number}"
        logits = torch.tensor([eighths(Numbers(label), size)], dtype=torch.float32) / 8
        hashes = core._hash_contexts(torch.tensor([context]), torch.tensor([width]))
        signed = [torch.tensor([parse_watermark_key(k)]) for k in (key, SGLANG_KEYS[2])]
        more = (signed[1], torch.tensor([int(0.3 * 2**32)])) if dual else ()
        chosen = core.select_watermark_tokens_torch(torch.softmax(logits, -1), hashes, signed[0], *more)
        choices.append({"key": key, "key_b": SGLANG_KEYS[2] if dual else None, "mixing": 0.3 if dual else None,
                        "context": context, "label": label, "size": size, "chosen": int(chosen[0])})
    for dual in (False, True):
        ids = Numbers(f"sglang/text/{dual}").list(400, 300)
        more = {"key_b": SGLANG_KEYS[2], "mixing_probability": 0.3} if dual else {}
        found = WatermarkDetector(SGLANG_KEYS[1], context_window=4, **more).detect_tokens(ids).combined
        detections.append({"key": SGLANG_KEYS[1], "key_b": more.get("key_b"), "mixing": more.get("mixing_probability"),
                           "ids": ids, "found": [found.num_contexts, found.score, found.log_p_value]})
    return {"packages": {"sglang": wheel_version(files, "sglang"), "torch": torch.__version__},
            "hashes": cases, "coins": coins, "choices": choices, "detections": detections}


def kgw_vectors():
    from transformers.generation.logits_process import WatermarkLogitsProcessor
    numbers, lists, scores = Numbers("hf-kgw"), [], []
    keys = [15485863, 1, 2**32 - 5, 2**62 + 12345678901]
    for key in keys:
        for size, gamma in ((1000, 0.25), (50257, 0.5), (1009, 0.1)):
            left = WatermarkLogitsProcessor(size, "cpu", gamma, 2.0, key, "lefthash", 1)
            for token in [1, size - 1] + numbers.list(2, size):
                green = sorted(left._get_greenlist_ids(torch.tensor([token])).tolist())
                digest = hashlib.sha256(struct.pack(f"<{len(green)}I", *green)).hexdigest()
                lists.append({"key": str(key), "size": size, "gamma": gamma, "token": token,
                              "green": green if size < 1005 else green[::97], "count": len(green), "sha256": digest})
    selfhash = []
    for key in keys:
        for width in (2, 4, 7):
            size, gamma = 1000, 0.25
            own = WatermarkLogitsProcessor(size, "cpu", gamma, 2.0, key, "selfhash", width)
            for _ in range(6):
                window, candidates = numbers.list(width - 1, size), numbers.list(10, size)
                rows = [torch.tensor(window + [candidate]) for candidate in candidates]
                seeds = []
                for row in rows:
                    own.set_seed(row)
                    seeds.append(own.rng.initial_seed())
                green = [int(candidate) in own._get_greenlist_ids(row).tolist() for candidate, row in zip(candidates, rows)]
                selfhash.append({"key": str(key), "size": size, "gamma": gamma, "width": width, "window": window,
                                 "candidates": candidates, "seeds": [str(seed) for seed in seeds],
                                 "green": "".join(str(int(g)) for g in green)})
    # The whole processor on logits: which tokens it raises.
    for scheme, width in (("lefthash", 1), ("selfhash", 4)):
        size = 400
        processor = WatermarkLogitsProcessor(size, "cpu", 0.25, 2.0, 15485863, scheme, width)
        for number in range(6):
            label = f"hf-kgw/{scheme}/{number}"
            order = Numbers(label)
            ranks = sorted(range(size), key=lambda token: (order.below(2**32), token))
            logits = torch.empty(size)
            for rank, token in enumerate(ranks):
                logits[token] = -rank / 8
            text = numbers.list(6, size)
            after = processor(torch.tensor([text]), logits[None].clone())[0]
            raised = (after - logits > 1).nonzero().flatten().tolist()
            scores.append({"scheme": scheme, "width": width, "key": "15485863", "size": size, "ranks": ranks,
                           "text": text, "raised": raised})
    return {"packages": {"transformers": version("transformers"), "torch": torch.__version__},
            "lists": lists, "selfhash": selfhash, "processor": scores}


SYNTHID_KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468, 990, 966, 226, 324, 585, 118,
                504, 421, 521, 129, 669, 732, 225, 90, 960]


def synthid_vectors():
    from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor
    peers = {"transformers": lambda keys, n: SynthIDTextWatermarkLogitsProcessor(n, keys, 2**16, 0, 1024, "cpu")}
    packages = {"transformers": version("transformers"), "torch": torch.__version__}
    try:
        original = importlib.import_module("synthid_text.logits_processing")
        peers["synthid-text"] = lambda keys, n: original.SynthIDLogitsProcessor(
            ngram_len=n, keys=keys, sampling_table_size=2**16, sampling_table_seed=0, context_history_size=1024,
            temperature=1.0, top_k=40, device=torch.device("cpu"))
        packages["synthid-text"] = "0.2.1"
    except ImportError as error:
        sys.exit(f"synthid-text: {error}")
    wide = [key * 0x9E37_79B9_7F4A_7C15 % 2**63 for key in range(1, 31)]
    cases, ones, updates = [], None, []
    for keys in (SYNTHID_KEYS, wide, SYNTHID_KEYS[:9]):
        for ngram_len in (2, 3, 5):
            ids = Numbers(f"hf-synthid/{len(keys)}/{ngram_len}").list(30, 200_000)
            values = []
            for make in peers.values():
                processor = make(keys, ngram_len)
                ones = int(processor.sampling_table.sum())
                values.append(processor.compute_g_values(torch.tensor([ids]))[0].tolist())
            assert all(value == values[0] for value in values), "the two peers disagree"
            cases.append({"keys": [str(key) for key in keys], "ngram_len": ngram_len, "ids": ids,
                          "g": ["".join(map(str, row)) for row in values[0]]})
    processor = peers["transformers"](SYNTHID_KEYS, 5)
    for number in range(6):
        label = f"hf-synthid/update/{number}"
        logits = torch.tensor([eighths(Numbers(label), 40)], dtype=torch.float32) / 8
        context = Numbers(f"{label}/context").list(4, 200_000)
        keys, _ = processor._compute_keys(torch.tensor([context]), torch.arange(40)[None])
        after = processor.update_scores(logits, processor.sample_g_values(keys))
        updates.append({"context": context, "label": label, "size": 40, "keys": [str(key) for key in SYNTHID_KEYS],
                        "probabilities": torch.softmax(after.double(), -1)[0].tolist()})
    return {"packages": packages, "ones": ones, "g_values": cases, "updates": updates}


def synthid_text_vectors():
    from synthid_text.hashing_function import accumulate_hash
    wide = [key * 0x9E37_79B9_7F4A_7C15 % 2**63 for key in range(1, 31)]
    cases = []
    for keys in (SYNTHID_KEYS, wide):
        for ngram_len in (2, 5):
            ids = Numbers(f"synthid-text/{len(keys)}/{ngram_len}").list(24, 200_000)
            tensor = torch.tensor(keys)
            digest = hashlib.sha256(tensor.numpy().tobytes()).digest()
            start = int.from_bytes(digest, "big") % torch.iinfo(torch.int64).max
            ngrams = torch.tensor(ids).unfold(0, ngram_len, 1)
            state = accumulate_hash(torch.full((len(ngrams),), start), ngrams)
            state = accumulate_hash(state[:, None].expand(-1, len(keys)), tensor[None, :, None])
            for _ in range(12):
                state = accumulate_hash(state, torch.tensor([1])) >> 5
            values = ((state >> 30) % 2).tolist()
            cases.append({"keys": [str(key) for key in keys], "ngram_len": ngram_len, "ids": ids,
                          "g": ["".join(map(str, row)) for row in values]})
    return {"packages": {"synthid-text": "0.2.1", "torch": torch.__version__}, "g_values": cases}


def bricks_vectors():
    numbers, cases = Numbers("three-bricks"), []
    for start, salt in ((0, 35317), (17, 35317), (12345678901, 987654321987654321)):
        for width in (1, 2, 4):
            for size in (1000, 32000):
                window, tokens = numbers.list(width, size), numbers.list(10, size)
                seed = start
                for token in window:
                    seed = (seed * salt + token) % (2**64 - 1)
                generator = torch.Generator().manual_seed(seed)
                green = set(torch.randperm(size, generator=generator)[: int(0.25 * size)].tolist())
                generator.manual_seed(seed)
                uniforms = torch.rand(size, generator=generator)
                cases.append({"seed": str(start), "salt": str(salt), "window": window, "size": size, "gamma": 0.25,
                              "rng_seed": str(seed), "tokens": tokens,
                              "green": "".join(str(int(token in green)) for token in tokens),
                              "uniforms": f32_bits(uniforms[tokens].tolist())})
    return {"packages": {"torch": torch.__version__}, "rows": cases}


def textseal_vectors(files):
    from textseal.common.watermark.core import WatermarkConfig, score_listed_tokens
    numbers, cases = Numbers("textseal"), []
    for key in (42, 1, 2**62 + 99, 0):
        for width in (1, 2, 4, 10):
            window, tokens = numbers.list(width, 200_000), numbers.list(10, 200_000)
            config = WatermarkConfig(secret_key=key, ngram=width)
            values = score_listed_tokens(torch.tensor([window]), config, tokens)[0]
            cases.append({"key": str(key), "window": window, "tokens": tokens, "uniforms": f32_bits(values.tolist())})
    return {"packages": {"textseal": wheel_version(files, "textseal"), "torch": torch.__version__}, "rows": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where compat-*.json go")
    parser.add_argument("--files", type=Path, default=ROOT / "target" / "peers" / "files",
                        help="where vllm and sglang lie unpacked")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = arguments.files.resolve()
    prepare(files)
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = {"torch": torch_vectors, "vllm": lambda: vllm_vectors(files), "sglang": lambda: sglang_vectors(files),
            "hf-kgw": kgw_vectors, "hf-synthid": synthid_vectors,
            "synthid-text": synthid_text_vectors, "three-bricks": bricks_vectors,
            "textseal": lambda: textseal_vectors(files)}
    for name, make in made.items():
        path = arguments.out / f"compat-{name}.json"
        path.write_text(json.dumps(make(), separators=(",", ":")) + "\n")
        print(f"{path}: {path.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
