"""The list of cases, imports without a package's own start-up code, and the checks of outputs."""
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch

from measure import LARGE, Step, logits

CASES = []       # (operation, peer, package, setting, what it gives, make)
UNAVAILABLE = [  # (peer, operations, reason)
    ("lm-watermarking", "green list", "not on the package registry; transformers' lefthash draws the same lists as its "
     "simple_1, and the CPU scheme of sbw is derived from it"),
    ("radioactive-watermark", "detectors", "not on the package registry, and needs CUDA"),
    ("MarkLLM", "self-hash", "draws one permutation of the vocabulary for every token of it: minutes a step"),
    ("text-watermark-studio", "green list", "scores words of plain text, not token ids: no comparable step"),
    ("vLLM, SGLang", "their GPU kernels", "need CUDA and Triton; their torch reference paths are timed instead"),
    ("vllm-sbw", "green list", "needs vLLM's runtime; the same functions of sbw are timed"),
    ("owmark, ymark, sbw", "Gumbel, SynthID", "green lists only"),
]


def case(operation, peer, package, setting, gives=""):
    def register(make):
        CASES.append((operation, peer, package, setting, gives, make))
        return make
    return register


def bare(name, folder):
    """Registers a package without running its __init__, which would import what is not timed."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def stand_in(name, **attributes):
    """A module that is imported by a peer but never called on the timed path."""
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def prepare_imports(scratch: Path):
    warnings.filterwarnings("ignore")
    vllm = scratch / "files" / "vllm" / "vllm"
    for name in ("vllm", "vllm.config", "vllm.v1", "vllm.v1.worker", "vllm.v1.worker.gpu", "vllm.v1.worker.gpu.sample"):
        bare(name, vllm.joinpath(*name.split(".")[1:]))
    stand_in("vllm.config.utils", config=lambda cls: cls)
    stand_in("vllm.logger", init_logger=lambda name: None)
    stand_in("vllm.v1.worker.gpu.sample.gumbel", gumbel_sample=None)
    sglang = scratch / "files" / "sglang" / "sglang"
    for name in ("sglang", "sglang.srt", "sglang.srt.sampling"):
        bare(name, sglang.joinpath(*name.split(".")[1:]))
    if spec := importlib.util.find_spec("textseal"):
        root = Path(spec.origin).parent
        for name in ("textseal", "textseal.common", "textseal.common.watermark", "textseal.posthoc"):
            bare(name, root.joinpath(*name.split(".")[1:]))


# Checks: a fast call that did nothing must not become a number.

def expect(condition, what):
    if not condition:
        raise RuntimeError(f"unexpected output: {what}")


def biased(size, gamma, delta, apply):
    """Checks that a step adds delta to a share gamma of the logits."""
    def check():
        before = logits(size)
        after = apply(before.clone(), 0)
        added = after - before
        raised = (added - delta).abs() < 1e-3
        expect((raised | (added.abs() < 1e-3)).all(), "something other than delta was added")
        share = raised.float().mean().item()
        expect(abs(share - gamma) < 0.02, f"green share {share:.3f}")
    return check


def chooses(size, call, before=None):
    """Checks that a choice is a token, and depends on the context."""
    def check():
        chosen = []
        for i in range(40):
            if before is not None:
                before(i)
            chosen.append(int(call(i)))
        expect(all(0 <= token < size for token in chosen), "no token")
        expect(len(set(chosen)) > 3, "the same token for every context")
    return check


def choice(size, call, before=None):
    return Step(call, chooses(size, call, before), before)


def reweights(call, scores):
    """Checks that a tournament moves probability and keeps its sum."""
    def check():
        call(0)
        after = torch.softmax(call(1), -1)
        expect(abs(after.sum().item() - 1) < 1e-3, "no distribution")
        expect((after - torch.softmax(scores, -1)).abs().sum() > 0.1, "nothing was reweighted")
    return check


def ids_tokenizer():
    """Text is token ids here; the peer's own call stays as it is."""
    return SimpleNamespace(encode=lambda ids, **_: ids, vocab_size=LARGE, bos_token_id=-1)
