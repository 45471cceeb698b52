"""The keys of a run: two master keys, and the integers that the engines' functions get from them."""
import json

from watermark.engines import write_key

from matrix.llama_test import llama_test

VOCABULARY = 49_152
FOREIGN = ["vllm-gumbel", "vllm-dual-key-gumbel", "sglang-gumbel", "sglang-dual-key-gumbel", "hf-kgw-lefthash",
           "hf-kgw-selfhash", "hf-synthid", "textseal-gumbel"]


def profile(mark):
    """The profile's name; that of a list has the vocabulary's size."""
    return f"{mark}:{VOCABULARY}" if mark.startswith("hf-kgw") else mark


def secret(path, text):
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text + "\n")


class Keys:
    """Files under `folder`. The master keys are those of the C interface's test: public, and good for nothing."""

    def __init__(self, folder):
        self.folder, self.integers_of = folder, {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, line in llama_test().LINES.items():
            secret(folder / f"{name}.key", line)

    def master(self, wrong=False):
        return self.folder / ("wrong.key" if wrong else "right.key")

    def engine(self, mark, wrong=False):
        """The file of an engine's key alone, derived from the master key's slot."""
        path = self.folder / f"{mark}-{'wrong' if wrong else 'right'}.json"
        if path not in self.integers_of:
            path.unlink(missing_ok=True)
            write_key(profile(mark), path, key_file=self.master(wrong))
            key = json.loads(path.read_text())["key"]
            self.integers_of[path] = [int(k) for k in key] if isinstance(key, list) else [int(key)]
        return path

    def integers(self, mark, wrong=False):
        """The key as the engine itself takes it: one integer or several."""
        return self.integers_of[self.engine(mark, wrong)]
