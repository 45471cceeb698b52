"""Who can read whose mark: every engine's own writer and reader, and ours, in one run on one model.

Run by `engines` in its environment. Writes engines.json and engines.md.
"""
import argparse
import json
import math
import os
import stat
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
from scipy.stats import norm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from cases.registry import prepare_imports  # noqa: E402

PROMPTS = [
    "The history of the railway begins with",
    "My grandmother used to tell us that",
    "In the deep sea there are animals that",
    "The city council decided last week to",
]
KEY, WRONG = 0x1234_5678_9ABC_DEF1, 0x0FED_CBA9_8765_4321
# Keys of 32 bits: transformers uses no more of them.
HASHING_KEY, WRONG_HASHING_KEY = 15485863, 49979687
SYNTHID_KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468, 990, 966, 226, 324, 585, 118,
                504, 421, 521, 129, 669, 732, 225, 90, 960]
WRONG_SYNTHID_KEYS = [(37 * key + 11) % 1009 for key in SYNTHID_KEYS]


class Text:
    """What one writer wrote: token ids without the prompt, one list an answer."""

    def __init__(self, writer, mark, answers, how):
        self.writer, self.mark, self.answers, self.how = writer, mark, [list(map(int, a)) for a in answers], how

    @property
    def tokens(self):
        return sum(map(len, self.answers))


def log10_normal(z):
    return float(norm.logsf(z) / math.log(10))


# Writers: the engine's own functions.

class Model:
    def __init__(self, path, tokens):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        place = dict(gguf_file=path.name)
        self.tokenizer = AutoTokenizer.from_pretrained(path.parent, **place)
        self.model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **place)
        self.tokenizer.pad_token = self.tokenizer.eos_token
        self.prompts = self.tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
        self.tokens = tokens

    def generate(self, config):
        """transformers' own loop and sampler, everything kept (top_k 0), no end of text."""
        torch.manual_seed(1)
        ids = self.model.generate(
            **self.prompts, do_sample=True, top_k=0, max_new_tokens=self.tokens, watermarking_config=config,
            suppress_tokens=[self.tokenizer.eos_token_id])
        return ids[:, self.prompts.input_ids.shape[1]:].tolist()

    def loop(self, choose):
        """A plain loop at temperature 1: `choose(logits, written)` gives a token a row."""
        torch.manual_seed(1)
        written, cache = [[] for _ in PROMPTS], None
        ids, mask = self.prompts.input_ids, self.prompts.attention_mask
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        for _ in range(self.tokens):
            with torch.no_grad():
                out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                                 use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            logits[:, self.tokenizer.eos_token_id] = -torch.inf
            ids = choose(logits, written).view(-1, 1)
            for row, token in zip(written, ids[:, 0].tolist()):
                row.append(token)
            mask = torch.cat([mask, mask.new_ones(len(written), 1)], -1)
            positions = positions[:, -1:] + 1
        return written


def ordinary(logits):
    return torch.multinomial(torch.softmax(logits, -1), 1)[:, 0]


def fresh(written, width, met):
    """The windows of all rows, and which of them are whole and stand for the first time in their row."""
    windows = [tuple(row[-width:]) for row in written]
    usable = [len(w) == width and w not in seen for w, seen in zip(windows, met)]
    for window, seen in zip(windows, met):
        seen.add(window)
    return windows, usable


def once(choose, width=4):
    """Each window is marked once a sequence, as the engines do themselves; else ordinary sampling."""
    met = [set() for _ in PROMPTS]

    def step(logits, written):
        windows, usable = fresh(written, width, met)
        plain = ordinary(logits)
        if not any(usable):
            return plain
        padded = torch.tensor([w if len(w) == width else (0,) * width for w in windows])
        return torch.where(torch.tensor(usable), choose(logits, padded), plain)
    return step


def vllm_writer(dual):
    from vllm.v1.watermarking import gumbel
    if dual:
        mark = gumbel.DualKeyGumbelWatermarker(KEY, 4)
        route = lambda logits: ordinary(logits)  # noqa: E731
        return once(lambda logits, windows: mark.sample(logits, windows, route).token_ids)
    mark = gumbel.GumbelWatermarker(KEY, 4)
    return once(lambda logits, windows: mark.sample(logits, windows).token_ids)


def sglang_writer(dual):
    from sglang.srt.sampling.watermarking import core
    from sglang.srt.sampling.watermarking.config import parse_watermark_key
    rows = len(PROMPTS)
    keys = torch.tensor([parse_watermark_key(f"{KEY:x}")] * rows)
    second = dict(keys_b=torch.tensor([parse_watermark_key(f"{KEY ^ 0xFFFF:x}")] * rows),
                  mixing_thresholds=torch.tensor([1 << 31] * rows)) if dual else {}
    lengths = torch.tensor([4] * rows)

    def choose(logits, windows):
        probabilities = torch.softmax(logits, -1)
        return core.select_watermark_tokens_torch(probabilities, core._hash_contexts(windows, lengths), keys, **second)
    return once(choose)


def theirs(model):
    """(writer, mark, how, answers) of every engine that runs here."""
    from transformers import SynthIDTextWatermarkingConfig, WatermarkingConfig
    version = metadata.version("transformers")
    for scheme, width in (("lefthash", 1), ("selfhash", 4)):
        config = WatermarkingConfig(
            greenlist_ratio=0.25, bias=2.5, seeding_scheme=scheme, hashing_key=HASHING_KEY, context_width=width)
        yield f"transformers {version}", f"hf-kgw-{scheme}", "generate()", lambda c=config: model.generate(c)
    config = SynthIDTextWatermarkingConfig(keys=SYNTHID_KEYS, ngram_len=5)
    yield f"transformers {version}", "hf-synthid", "generate()", lambda: model.generate(config)
    for dual in (False, True):
        name = "dual-key-gumbel" if dual else "gumbel"
        yield "vLLM 0.33.0", f"vllm-{name}", "its torch sampler in a plain loop", lambda d=dual: model.loop(vllm_writer(d))
        yield "SGLang 0.5.23", f"sglang-{name}", "its torch sampler in a plain loop", lambda d=dual: model.loop(sglang_writer(d))


# Readers: (log10 p under the key, log10 p under another key, scored).

def read_vllm(text, wrong):
    from vllm.v1.watermarking import gumbel
    dual = "dual" in text.mark
    kind = gumbel.DualKeyGumbelWatermarkDetector if dual else gumbel.GumbelWatermarkDetector
    detector = kind(WRONG if wrong else KEY, 4, deduplicate_contexts=True)
    found = [detector.detect(answer) for answer in text.answers]
    return fisher([max(f.p_value, 1e-300) for f in found]), sum(f.num_scored_tokens for f in found)


def read_sglang(text, wrong):
    from sglang.srt.sampling.watermarking.detector import WatermarkDetector
    key = WRONG if wrong else KEY
    second = dict(key_b=f"{key ^ 0xFFFF:x}") if "dual" in text.mark else {}
    detector = WatermarkDetector(f"{key:x}", context_window=4, **second)
    found = [detector.detect_tokens(answer).combined for answer in text.answers]
    logs = [f.log_p_value for f in found]
    return fisher_log(logs), sum(f.num_contexts for f in found)


def read_kgw(text, wrong):
    from transformers import WatermarkDetector, WatermarkingConfig
    scheme = text.mark.removeprefix("hf-kgw-")
    config = WatermarkingConfig(
        greenlist_ratio=0.25, bias=2.5, seeding_scheme=scheme, context_width=4 if scheme == "selfhash" else 1,
        hashing_key=WRONG_HASHING_KEY if wrong else HASHING_KEY)
    detector = WatermarkDetector(read_kgw.model.config, "cpu", config, ignore_repeated_ngrams=True)
    found = detector(torch.tensor(text.answers), return_dict=True)
    n = [int(v) for v in found.num_tokens_scored]
    z = sum(math.sqrt(k) * float(v) for k, v in zip(n, found.z_score)) / math.sqrt(sum(n))
    return log10_normal(z), sum(n)


def read_synthid(text, wrong):
    from transformers import SynthIDTextWatermarkLogitsProcessor
    processor = SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5, keys=WRONG_SYNTHID_KEYS if wrong else SYNTHID_KEYS, sampling_table_size=2**16,
        sampling_table_seed=0, context_history_size=1024, device="cpu")
    ids = torch.tensor(text.answers)
    values = processor.compute_g_values(ids)
    mask = processor.compute_context_repetition_mask(ids).bool()
    scored = values[mask].double()
    z = (scored.mean().item() - 0.5) * math.sqrt(4 * scored.numel())
    return log10_normal(z), scored.shape[0]


def fisher_log(logs):
    """Independent p-values as one: -2 sum ln p is chi-square with twice as many degrees of freedom."""
    from scipy.special import gammaln, logsumexp
    half, n = -sum(logs), len(logs)
    if half <= 0:
        return 0.0
    terms = [k * math.log(half) - gammaln(k + 1) for k in range(n)]
    return min(0.0, (-half + logsumexp(terms)) / math.log(10))


def fisher(ps):
    return fisher_log([math.log(p) for p in ps])


READERS = {
    "vllm": ("vLLM 0.33.0", "its detector, an answer at a time; Fisher", read_vllm),
    "sglang": ("SGLang 0.5.23", "its detector, an answer at a time; Fisher", read_sglang),
    "hf-kgw": ("transformers", "WatermarkDetector; z-scores joined (nominal normal p)", read_kgw),
    "hf-synthid": ("transformers", "its g-values and masks; mean (nominal normal p: it has no p of its own)", read_synthid),
}


class Ours:
    """The command `watermark`."""

    def __init__(self, binary, scratch, gguf, tokenizer):
        self.binary, self.scratch, self.gguf, self.tokenizer = binary, scratch, gguf, tokenizer
        self.known = {}

    def call(self, *words):
        done = subprocess.run([str(w) for w in (self.binary, *words)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"watermark {words[0]}: {done.stderr.strip()}")
        return done.stdout

    def key(self, mark, wrong=False):
        """A key file for a profile: the engine's own key, or for native profiles a master key of ours."""
        path = self.scratch / f"{mark}{'-wrong' if wrong else ''}.key"
        path.unlink(missing_ok=True)
        function = {"vllm": "vllm", "sglang": "sglang", "hf-kgw": "hf-kgw", "hf-synthid": "hf-synthid"}
        function = next((f for prefix, f in function.items() if mark.startswith(prefix)), None)
        if function is None:
            self.call("key", "new", "--out", path)
            return path
        key = WRONG if wrong else KEY
        value = {"hf-kgw": WRONG_HASHING_KEY if wrong else HASHING_KEY,
                 "hf-synthid": WRONG_SYNTHID_KEYS if wrong else SYNTHID_KEYS}.get(function, str(key))
        record = {"schema": "watermark.engine-key/1", "function": function, "key": value}
        if mark == "sglang-dual-key-gumbel":
            record["key"] = [str(key), str(key ^ 0xFFFF)]
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, stat.S_IRUSR | stat.S_IWUSR), "w") as file:
            json.dump(record, file)
        return path

    def write(self, mark, tokens):
        prompts, out = self.scratch / "prompts.jsonl", self.scratch / f"ours-{mark}.jsonl"
        prompts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
        out.unlink(missing_ok=True)
        self.call("generate", "--model", self.gguf, "--profile", mark, "--key-file", self.keys(mark), "--prompts", prompts,
                  "--max-tokens", tokens, "--out", out)
        lines = map(json.loads, out.read_text().splitlines())
        return [line["token_ids"] if "token_ids" in line else line["tokens"] for line in lines]

    def keys(self, mark):
        if mark not in self.known:
            self.known[mark] = self.key(mark)
        return self.known[mark]

    def read(self, text, wrong):
        file = self.scratch / "read.jsonl"
        file.write_text("".join(json.dumps({"token_ids": answer}) + "\n" for answer in text.answers))
        key = self.key(text.mark, True) if wrong else self.keys(text.mark)
        out = self.call("detect", "--profile", text.mark, "--key-file", key, "--tokenizer", self.tokenizer, "--format",
                        "jsonl", file)
        last = json.loads(out.splitlines()[-1])
        return last["test"]["pLog10"] if "test" in last else last["pLog10"], (last.get("test") or last)["nScored"]


def reader_of(mark):
    return next((READERS[prefix] for prefix in READERS if mark.startswith(prefix)), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--watermark", type=Path, required=True, help="the command, built in release")
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2 as GGUF")
    parser.add_argument("--tokens", type=int, default=150, help="tokens of an answer")
    parser.add_argument("--native", default="gumbel-h2,greenlist-h2,tournament-h2")
    parser.add_argument("--answers", type=Path, action="append", default=[],
                        help="JSONL of another run: writer, mark, how, token_ids, and the key files that read it")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    prepare_imports(arguments.scratch.parent if (arguments.scratch.parent / "files").exists() else arguments.scratch)
    started = time.time()
    model = Model(arguments.model.resolve(), arguments.tokens)
    read_kgw.model = model.model
    model.tokenizer.save_pretrained(arguments.scratch / "tokenizer")
    ours = Ours(arguments.watermark.resolve(), arguments.scratch, arguments.model.resolve(),
                arguments.scratch / "tokenizer" / "tokenizer.json")
    texts, missing = [], []

    def take(writer, mark, how, make):
        began = time.time()
        try:
            texts.append(Text(writer, mark, make(), how))
        except Exception as error:  # noqa: BLE001 - any reason is a row of its own
            missing.append({"writer": writer, "mark": mark, "why": f"{type(error).__name__}: {error}"[:300]})
        print(f"{writer}: {mark} ({time.time() - began:.0f} s)", file=sys.stderr)

    for writer, mark, how, make in theirs(model):
        take(writer, mark, how, make)
    engines = ["vllm-gumbel", "vllm-dual-key-gumbel", "sglang-gumbel", "sglang-dual-key-gumbel", "hf-kgw-lefthash",
               "hf-kgw-selfhash", "hf-synthid"]
    for mark in engines + arguments.native.split(","):
        take("watermark", mark, "generate --model", lambda m=mark: ours.write(m, arguments.tokens))

    rows = []
    for text in texts:
        readers = [("watermark", "detect, every cell once, all answers together", ours.read)]
        if found := reader_of(text.mark):
            readers.append(found)
        for reader, how, read in readers:
            try:
                (p, scored), (wrong, _) = read(text, False), read(text, True)
            except Exception as error:  # noqa: BLE001
                missing.append({"writer": text.writer, "reader": reader, "mark": text.mark,
                                "why": f"{type(error).__name__}: {error}"[:300]})
                continue
            rows.append({"writer": text.writer, "reader": reader, "mark": text.mark, "pLog10": round(p, 2),
                         "wrongKeyPLog10": round(wrong, 3), "tokens": text.tokens, "scored": scored,
                         "written": text.how, "read": how})
    result = {
        "type": "watermark.engines", "schema": 1, "model": arguments.model.name,
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")} | {"vllm": "0.33.0", "sglang": "0.5.23"},
        "seconds": round(time.time() - started), "matrix": rows, "notRun": missing,
    }
    (arguments.out / "engines.json").write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(f"{row['writer']:<22} {row['reader']:<22} {row['mark']:<24} {row['pLog10']:>9} {row['wrongKeyPLog10']:>8} "
              f"{row['scored']:>6} of {row['tokens']}")
    for row in missing:
        print("not run:", row)


if __name__ == "__main__":
    main()
