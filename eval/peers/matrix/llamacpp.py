"""Our sampler in a real llama.cpp: writes {"answers": [[token id]]} of one profile. Run by `ours.py` in a process of its own."""
import argparse
import ctypes as c
import importlib.util
import json
from pathlib import Path

from llama_test import llama_test


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("library", "model", "key-file", "prompts", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    arguments = parser.parse_args()
    api = llama_test()
    package = Path(importlib.util.find_spec("xllamacpp").origin).parent
    wmk, llama = api.Watermark(arguments.library), api.Llama(next(package.glob("xllamacpp.*so")))
    quiet = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda *_: None)
    llama.call("llama_log_set", None, quiet, None)
    model = api.Model(llama, arguments.model)
    scheme = wmk.scheme(arguments.profile, {"key_file": bytes(arguments.key_file)})
    init, answers = c.cast(llama.handle.llama_sampler_init, c.c_void_p), []
    for seed, prompt in enumerate(json.loads(arguments.prompts.read_text())):
        options = api.LlamaOptions(init=init, seed=seed)
        sampler = wmk.make("wmk_llama_sampler_new", scheme, c.byref(options))
        tokens, chain = model.write(prompt, sampler, length=arguments.tokens, chat=False)
        answers.append(list(tokens))
        llama.call("llama_sampler_free", None, chain)
    texts = [model.text(answer) for answer in answers]
    arguments.out.write_text(json.dumps({"answers": answers, "texts": texts}))


if __name__ == "__main__":
    main()
