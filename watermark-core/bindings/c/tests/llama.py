#!/usr/bin/env python3
"""The sampler in a real llama.cpp: llama.py LIBRARY DIRECTORY

LIBRARY is libwatermark_c.so. What is needed is fetched into DIRECTORY once: a virtual environment with the wheel xllamacpp, whose
extension module exports llama.cpp's C functions, and SmolLM2-135M by corpora/fetch.sh. Both libraries are called by ctypes; the
one that is under test is not linked to llama.cpp. With a third argument, the command `watermark`, it has to find the mark in the
bare text as well.

Of the structs that llama.cpp passes by value only the size matters here, and only as an upper bound: they are copied through
memory.
"""
import ctypes as c
import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

WHEEL = "xllamacpp==2026.10.11549"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Null: the tokens are independent of the key, as they are of the wrong one: its log10 p is below WRONG for one key in 10,000
# (times 22 comparisons), and the keys are fixed. What the mark must reach: 120 tokens of the formula RIGHT, and TOKENS of a
# model that is often certain REAL, for which 200 scored cells need a mean Gumbel score of 1.45 (1 by chance), a green share
# of 0.45 (0.25 by chance), or 54 % ones in a tournament of depth 30.
RIGHT, REAL, WRONG = -20.0, -9.0, -4.0
TOKENS = 250
# Master keys of 32 bytes 1 and 32 bytes 2, for the command.
LINES = {
    "right": "WMK-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSHW9V50",
    "wrong": "WMK-SECRET-KEY-1QGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQ6CZTP8",
}


def environment(directory):
    """Goes on in an environment that has the wheel."""
    if importlib.util.find_spec("xllamacpp"):
        return
    python = directory / "venv/bin/python"
    if not (directory / "venv/done").exists():
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEEL], check=True)
        (directory / "venv/done").touch()
    elif pathlib.Path(sys.executable).parent == python.parent:
        sys.exit(f"{WHEEL} is not in {directory}/venv: remove that directory")
    os.execv(python, [python, *sys.argv])


class Blob(c.Structure):
    """A struct passed by value, of at most so many bytes."""

    _fields_ = [("bytes", c.c_uint8 * 1024)]


class ChainParams(c.Structure):
    _fields_ = [("no_perf", c.c_bool)]


class TokenData(c.Structure):
    _fields_ = [("id", c.c_int32), ("logit", c.c_float), ("p", c.c_float)]


class TokenArray(c.Structure):
    _fields_ = [("data", c.POINTER(TokenData)), ("size", c.c_size_t), ("selected", c.c_int64), ("sorted", c.c_bool)]


class LogitBias(c.Structure):
    _fields_ = [("token", c.c_int32), ("bias", c.c_float)]


class Struct(c.Structure):
    """Of watermark.h: struct_size is set."""

    def __init__(self, **fields):
        super().__init__(struct_size=c.sizeof(self), **fields)


class SchemeOptions(Struct):
    _fields_ = [
        ("struct_size", c.c_size_t), ("profile", c.c_char_p), ("profile_json", c.c_char_p), ("key_file", c.c_char_p),
        ("key_line", c.c_char_p), ("key_bytes", c.c_char_p), ("key_bytes_len", c.c_size_t), ("epoch", c.c_char_p),
        ("slot", c.c_uint32), ("account", c.c_uint32),
    ]


class LlamaOptions(Struct):
    _fields_ = [("struct_size", c.c_size_t), ("init", c.c_void_p), ("seed", c.c_uint64)]


class Counts(Struct):
    _fields_ = [("struct_size", c.c_size_t), ("tokens", c.c_uint64), ("segments", c.c_uint64), ("outcomes", c.c_uint64 * 16)]


class Detection(Struct):
    _fields_ = [("struct_size", c.c_size_t)] + [
        (name, c.c_double) for name in ("ln_p", "log10_p", "lower_log10_p", "z", "mean", "null_mean")
    ] + [(name, c.c_uint64) for name in ("n_scored", "sum", "segments", "tokens", "partial", "excluded", "repeated", "cells")]


class Library:
    """A shared library whose functions are declared at their call: pointers and sizes fit a machine word."""

    def __init__(self, path):
        self.handle = c.CDLL(str(path))

    def call(self, name, result, *arguments):
        function = getattr(self.handle, name)
        function.restype = result
        return function(*arguments)


class Watermark(Library):
    def check(self, name, *arguments):
        if status := self.call(name, c.c_int32, *arguments):
            message = self.call("wmk_last_error", c.c_char_p).decode()
            raise RuntimeError(f"{name}: status {status}: {message}")

    def make(self, name, *arguments):
        made = c.c_void_p()
        self.check(name, *arguments, c.byref(made))
        return made

    def scheme(self, profile, key):
        return self.make("wmk_scheme_new", c.byref(SchemeOptions(profile=profile.encode(), **key)))

    def detect(self, scheme, tokens):
        detection = Detection()
        self.check("wmk_detect", scheme, (c.c_int32 * len(tokens))(*tokens), c.c_size_t(len(tokens)), c.byref(detection))
        return detection

    def counts(self, sampler):
        counts, failures = Counts(), c.c_uint64()
        self.check("wmk_llama_sampler_counts", sampler, c.byref(counts), c.byref(failures))
        return counts, failures.value

    def tokens(self, sampler):
        session, length = self.make("wmk_llama_sampler_session", sampler), c.c_size_t()
        tokens = (c.c_int32 * 4096)()
        self.check("wmk_session_tokens", session, tokens, c.c_size_t(4096), c.byref(length))
        self.check("wmk_session_free", session)
        return tokens[: length.value]


class Llama(Library):
    def make(self, name, *arguments):
        made = c.c_void_p(self.call(name, c.c_void_p, *arguments))
        assert made.value, name
        return made

    def chain(self, *samplers):
        chain = self.make("llama_sampler_chain_init", ChainParams(no_perf=True))
        for sampler in samplers:
            self.call("llama_sampler_chain_add", None, chain, sampler)
        return chain

    def truncation(self, temperature=1.0):
        return [
            self.make("llama_sampler_init_top_k", c.c_int32(50)),
            self.make("llama_sampler_init_top_p", c.c_float(0.95), c.c_size_t(1)),
            self.make("llama_sampler_init_temp", c.c_float(temperature)),
        ]

    def last(self, chain):
        """The chain's last member."""
        length = self.call("llama_sampler_chain_n", c.c_int32, chain)
        return self.make("llama_sampler_chain_get", chain, c.c_int32(length - 1))


def key(first):
    return {"key_bytes": bytes([first]) + bytes(31), "key_bytes_len": 32, "epoch": b"llama"}


def found(what, right, wrong, n, least):
    print(f"{what:34} {n:4} tokens, {right.n_scored:4} scored, log10 p {right.log10_p:7.1f}, wrong key {wrong.log10_p:5.1f}")
    assert right.log10_p < least, f"{what}: the mark is not found"
    assert WRONG < wrong.log10_p <= 0.0, f"{what}: another key finds something"


def synthetic(wmk, llama, profile):
    """The functions of the table, with a model that is a formula."""
    scheme, other = wmk.scheme(profile, key(1)), wmk.scheme(profile, key(2))
    init = c.cast(llama.handle.llama_sampler_init, c.c_void_p)
    ours = wmk.make("wmk_llama_sampler_new", scheme, c.byref(LlamaOptions(init=init, seed=5)))
    wmk.check("wmk_scheme_free", scheme)  # The sampler lives on.
    scheme = wmk.scheme(profile, key(1))
    assert llama.call("llama_sampler_name", c.c_char_p, ours) == b"watermark"
    chain = llama.chain(*llama.truncation(), ours)

    def apply(chain, last):
        """The token that the chain selects; every call gets an array of its own, which the chain changes."""
        data = (TokenData * 500)()
        for token in range(500):
            x = (last * 2654435761 ^ (token + 1) * 2246822519) & 0xFFFFFFFF
            x = ((x ^ x >> 15) * 3266489917) & 0xFFFFFFFF
            data[token] = TokenData(token, (x >> 8) / (1 << 24) * 6, 0.0)
        array = TokenArray(data, 500, -1, False)
        llama.call("llama_sampler_apply", None, chain, c.byref(array))
        assert 0 <= array.selected < array.size <= 50
        return array.data[array.selected].id

    def write(chain, length, last=0):
        tokens = []
        for _ in range(length):
            token = apply(chain, last)
            assert apply(chain, last) == token, "apply changes something"
            llama.call("llama_sampler_accept", None, chain, c.c_int32(token))
            tokens.append(token)
            last = token
        return tokens

    def accept_prompt():
        for token in (7, 8, 9):
            llama.call("llama_sampler_accept", None, chain, c.c_int32(token))

    accept_prompt()
    start = write(chain, 40)
    assert wmk.tokens(ours) == start, "the prompt entered the sequence"
    clone = llama.make("llama_sampler_clone", chain)
    saved = llama.make("llama_sampler_clone", chain)
    rest = write(chain, 80, start[-1])
    assert write(clone, 80, start[-1]) == rest, "a clone goes on differently"
    llama.call("llama_sampler_copy", None, saved, chain)
    # A copy replaces what the member points to.
    assert wmk.tokens(llama.last(chain)) == start, "a copy is not the saved state"
    assert write(chain, 80, start[-1]) == rest, "a copy goes on differently"
    tokens = start + rest
    counts, failures = wmk.counts(ours)
    assert counts.tokens == 120 and sum(counts.outcomes) == 120 and failures == 0
    assert counts.outcomes[0] > 60, "little was marked"
    found(f"synthetic, {profile}", wmk.detect(scheme, tokens), wmk.detect(other, tokens), len(tokens), RIGHT)

    # Another token than the mark's is counted as that.
    marked = counts.outcomes[0]
    token = (apply(chain, tokens[-1]) + 1) % 500
    llama.call("llama_sampler_accept", None, chain, c.c_int32(token))
    counts, _ = wmk.counts(ours)
    assert (counts.outcomes[0], counts.outcomes[9]) == (marked, 1)
    # Nothing to choose from: the host goes on, and it is counted.
    data = (TokenData * 2)(TokenData(1, float("-inf"), 0), TokenData(2, float("nan"), 0))
    array = TokenArray(data, 2, -1, False)
    llama.call("llama_sampler_apply", None, ours, c.byref(array))
    assert array.selected == 0 and wmk.counts(ours)[1] == 1
    # A reset sampler starts again.
    llama.call("llama_sampler_reset", None, chain)
    assert wmk.tokens(ours) == []
    accept_prompt()
    assert write(chain, 40) == start, "a reset chain writes something else"
    # A sampler of another kind is refused.
    status = wmk.call("wmk_llama_sampler_counts", c.c_int32, chain, c.byref(Counts()), None)
    assert status != 0
    for sampler in (chain, clone, saved):
        llama.call("llama_sampler_free", None, sampler)
    for scheme in (scheme, other):
        wmk.check("wmk_scheme_free", scheme)


class Model:
    def __init__(self, llama, path):
        self.llama = llama
        llama.call("llama_backend_init", None)
        self.model = c.c_void_p(
            llama.call("llama_model_load_from_file", c.c_void_p, str(path).encode(), llama.call("llama_model_default_params", Blob))
        )
        assert self.model.value, path
        self.vocabulary = llama.make("llama_model_get_vocab", self.model)
        self.size = llama.call("llama_vocab_n_tokens", c.c_int32, self.vocabulary)
        ends = [t for t in range(self.size) if llama.call("llama_vocab_is_eog", c.c_bool, self.vocabulary, c.c_int32(t))]
        # The text goes on to its full length.
        self.no_end = (LogitBias * len(ends))(*(LogitBias(token, float("-inf")) for token in ends))

    def tokenize(self, text, special):
        out = (c.c_int32 * 4096)()
        text = text.encode()
        n = self.llama.call(
            "llama_tokenize", c.c_int32, self.vocabulary, text, c.c_int32(len(text)), out, c.c_int32(4096), c.c_bool(False),
            c.c_bool(special),
        )
        assert n > 0
        return out[:n]

    def text(self, tokens):
        out = c.create_string_buffer(1 << 16)
        n = self.llama.call(
            "llama_detokenize", c.c_int32, self.vocabulary, (c.c_int32 * len(tokens))(*tokens), c.c_int32(len(tokens)), out,
            c.c_int32(1 << 16), c.c_bool(False), c.c_bool(False),
        )
        return out.raw[:n].decode(errors="replace")

    def decode(self, context, tokens):
        tokens = (c.c_int32 * len(tokens))(*tokens)
        batch = self.llama.call("llama_batch_get_one", Blob, tokens, c.c_int32(len(tokens)))
        assert self.llama.call("llama_decode", c.c_int32, context, batch) == 0

    def write(self, prompt, sampler, grammar=None, length=TOKENS, chat=True):
        """Some tokens after a prompt, sampled as llama.cpp's programs do."""
        llama = self.llama
        members = [llama.make("llama_sampler_init_logit_bias", c.c_int32(self.size), c.c_int32(len(self.no_end)), self.no_end)]
        if grammar:
            members.append(llama.make("llama_sampler_init_grammar", self.vocabulary, grammar.encode(), b"root"))
        chain = llama.chain(*members, *llama.truncation(), sampler)
        context = llama.make("llama_init_from_model", self.model, llama.call("llama_context_default_params", Blob))
        # One thread: several wait for each other in a loop, which takes minutes on a busy machine.
        llama.call("llama_set_n_threads", None, context, c.c_int32(1), c.c_int32(1))
        if chat:
            prompt = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        prompt = self.tokenize(prompt, chat)
        if not grammar:
            for token in prompt:
                llama.call("llama_sampler_accept", None, chain, c.c_int32(token))
        self.decode(context, prompt)
        tokens = []
        for _ in range(length):
            tokens.append(llama.call("llama_sampler_sample", c.c_int32, chain, context, c.c_int32(-1)))
            self.decode(context, tokens[-1:])
        llama.call("llama_free", None, context)
        return tokens, chain


def metadata(path):
    """The metadata of a GGUF file."""
    with open(path, "rb") as file:
        def read(form):
            return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

        def value(kind):
            if kind == 8:
                return file.read(read("Q")).decode(errors="replace")
            if kind == 9:
                kind, length = read("I"), read("Q")
                return [value(kind) for _ in range(length)]
            return read("BbHhIif???Qqd"[kind])

        assert file.read(4) == b"GGUF" and read("I") == 3
        read("Q")
        return {value(8): value(read("I")) for _ in range(read("Q"))}


def tokenizer_json(path):
    """The tokenizer.json of a model with the vocabulary of SmolLM2: bytes, digits apart."""
    of = metadata(path)
    tokens, kinds = of["tokenizer.ggml.tokens"], of["tokenizer.ggml.token_type"]
    assert of["tokenizer.ggml.pre"] == "smollm"
    bytes_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": token, "special": True, **flags} for i, token in enumerate(tokens) if kinds[i] == 3
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, bytes_level]},
        "decoder": bytes_level,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": of["tokenizer.ggml.merges"]},
    }


LIST = r"""
root ::= item+
item ::= "- " [A-Z] [A-Za-z ',;-]{30,160} ".\n"
"""
JSON = r"""
root ::= "[\n" object (",\n" object)* "\n]"
object ::= "{\"name\": " string ", \"place\": " string ", \"story\": " string "}"
string ::= "\"" [A-Za-z ,.'-]{5,80} "\""
"""


def real(wmk, llama, model, directory, command):
    story = "Write a long story about a lighthouse keeper and the people of the island."
    runs = [
        ("gumbel-h2", story, None, "plain"),
        ("greenlist-h1", story, None, "plain"),
        ("gumbel-h2", story, LIST, "list grammar"),
        ("tournament-h2", "Write a JSON list of made-up people with a name, a place and a story.", JSON, "JSON grammar"),
    ]
    init = c.cast(llama.handle.llama_sampler_init, c.c_void_p)
    for profile, prompt, grammar, what in runs:
        right, wrong = (wmk.scheme(profile, {"key_file": bytes(directory / f"{name}.key")}) for name in LINES)
        sampler = wmk.make("wmk_llama_sampler_new", right, c.byref(LlamaOptions(init=init, seed=11)))
        started = time.monotonic()
        tokens, chain = model.write(prompt, sampler, grammar)
        seconds = time.monotonic() - started
        text = model.text(tokens)
        if grammar == LIST:
            assert all(line.startswith("-") for line in text.splitlines()), text
        if grammar == JSON:
            assert text.startswith('[\n{"name": "'), text
        name = f"{what}, {profile}"
        assert wmk.tokens(sampler) == tokens
        found(name, wmk.detect(right, tokens), wmk.detect(wrong, tokens), len(tokens), REAL)
        again = model.tokenize(text, False)
        found("  its text, tokenized again", wmk.detect(right, again), wmk.detect(wrong, again), len(again), REAL)
        counts, failures = wmk.counts(sampler)
        assert counts.tokens == len(tokens) and failures == 0
        if command:
            (directory / "text.txt").write_text(text)
            ps = []
            for file in LINES:
                made = subprocess.run(
                    [command, "detect", "--key-file", directory / f"{file}.key", "--profile", profile, "--tokenizer",
                     directory / "tokenizer.json", "--format", "json", directory / "text.txt"],
                    check=True, capture_output=True, text=True,
                )
                ps.append(first_p(json.loads(made.stdout)))
            print(f"  the command, from the text{'':>28} log10 p {ps[0]:7.1f}, wrong key {ps[1]:5.1f}")
            assert ps[0] < REAL and WRONG < ps[1] <= 0.0
        print(f"  {counts.outcomes[0]} marked, {counts.outcomes[3]} without a window, {counts.outcomes[4]} repeated; {seconds:.0f} s")
        if os.environ.get("SHOW"):
            print(text)
        llama.call("llama_sampler_free", None, chain)
        for scheme in (right, wrong):
            wmk.check("wmk_scheme_free", scheme)


def first_p(report):
    """The first pLog10 in a report."""
    if isinstance(report, dict):
        if "pLog10" in report:
            return report["pLog10"]
        report = list(report.values())
    if isinstance(report, list):
        for value in report:
            p = first_p(value)
            if p is not None:
                return p
    return None


def main():
    library, directory = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    command = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else None
    environment(directory)
    package = pathlib.Path(importlib.util.find_spec("xllamacpp").origin).parent
    wmk, llama = Watermark(library), Llama(next(package.glob("xllamacpp.*so")))
    quiet = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda *_: None)
    llama.call("llama_log_set", None, quiet, None)
    for profile in ("gumbel-h2", "gumbel-dual-h2", "tournament-h2", "greenlist-h1", "selfhash-h4"):
        synthetic(wmk, llama, profile)
    path = directory / MODEL
    if not path.exists():
        root = pathlib.Path(__file__).resolve().parents[4]
        subprocess.run([root / "corpora/fetch.sh", "smollm2", directory], check=True, stdout=subprocess.DEVNULL)
    for name, line in LINES.items():
        (directory / f"{name}.key").touch(mode=0o600)
        (directory / f"{name}.key").write_text(line + "\n")
    if command:
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(path)))
    real(wmk, llama, Model(llama, path), directory, command)


if __name__ == "__main__":
    main()
