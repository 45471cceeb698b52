"""TextSeal, the engines' own marks (vLLM, SGLang), and the Rust crate."""
import importlib

import torch

from cases.registry import biased, case, choice, chooses, ids_tokenizer
from measure import LARGE, SMALL, Reader, Step, contexts, logits, weights

# TextSeal: the generators' choice of a token; the model behind it is not needed.

def textseal(kind, **settings):
    from textseal.common.watermark.core import WatermarkConfig
    return WatermarkConfig(watermark_type=kind, secret_key=42, **settings)


def textseal_generator(name, config):
    generators = importlib.import_module("textseal.posthoc.generator")
    generator = object.__new__(getattr(generators, name))
    generator.__dict__.update(wm_args=config, delta=config.delta, depth=config.depth, after_topp=False, ngram=config.ngram)
    return generator


def textseal_green(size):
    generator = textseal_generator("GreenlistGenerator", textseal("greenlist", method="binary", ngram=1))
    ids, scores = contexts(1), logits(size)
    return Step(lambda i: generator.logits_processor(scores, ids[i]),
                biased(size, 0.5, 2.0, lambda s, i: generator.logits_processor(s, ids[i])))


case("green-32k", "TextSeal", "textseal", "green list on the logits")(lambda: textseal_green(SMALL))
case("green-128k", "TextSeal", "textseal", "green list on the logits")(lambda: textseal_green(LARGE))


def textseal_choice(name, size, **settings):
    generator = textseal_generator(name, textseal(**settings, ngram=4))
    ids, scores = contexts(4), logits(size)
    return choice(size, lambda i: generator.sample_next(scores, ids[i], 1.0, 1.0))


GUMBEL = {"name": "GumbelmaxGenerator", "kind": "gumbelmax", "method": "uniform"}
SYNTHID = {"name": "SynthidGenerator", "kind": "synthid", "method": "binary", "depth": 30}
case("gumbel-128k", "TextSeal", "textseal", "softmax, sort and choice")(lambda: textseal_choice(size=LARGE, **GUMBEL))
case("gumbel-50", "TextSeal", "textseal", "a vocabulary of 50")(lambda: textseal_choice(size=50, **GUMBEL))
case("synthid-128k", "TextSeal", "textseal", "softmax, sort, tournament and draw")(lambda: textseal_choice(size=LARGE, **SYNTHID))
case("synthid-50", "TextSeal", "textseal", "a vocabulary of 50, and draw")(lambda: textseal_choice(size=50, **SYNTHID))


def textseal_reader(name, kind, method, scoring):
    detectors = importlib.import_module("textseal.posthoc.detector")
    core = importlib.import_module("textseal.common.watermark.core")
    config = textseal(kind, method=method, ngram=4, scoring_method=scoring)
    detector = getattr(detectors, name)(ids_tokenizer(), config)

    def detect(ids):
        scores, mean = core.score_tokens(ids, config)
        detector.get_pvalue(round(mean * len(scores)) if method == "binary" else mean * len(scores), len(scores), 1e-200)
        return len(scores)
    return Reader(detect, torch.tensor)


for scoring, words in (("v2", "each cell once"), ("none", "repeats counted")):
    case("read-green", "TextSeal", "textseal", f"score_tokens, h = 4, {words}", "mid-p")(
        lambda scoring=scoring: textseal_reader("GreenlistDetector", "greenlist", "binary", scoring))
    case("read-gumbel", "TextSeal", "textseal", f"score_tokens, h = 4, {words}", "gamma p, floor 1e-200")(
        lambda scoring=scoring: textseal_reader("GumbelmaxDetector", "gumbelmax", "uniform", scoring))


@case("read-synthid", "TextSeal", "textseal", "get_scores_by_t, h = 4, repeats counted", "mid-p")
def _():
    detectors = importlib.import_module("textseal.posthoc.detector")
    detector = detectors.SynthidDetector(ids_tokenizer(), textseal("synthid", method="binary", ngram=4, depth=30))

    def detect(ids):
        (scores,) = detector.get_scores_by_t([ids])
        detector.get_pvalue(sum(scores), len(scores), 1e-200)
        return len(scores)
    return Reader(detect)


# vLLM: the torch path of its native mark, which also serves CPUs.

def vllm_gumbel(size):
    from vllm.v1.watermarking.gumbel import GumbelWatermarker
    mark = GumbelWatermarker(0x1234_5678_9ABC_DEF0, 4)
    ids, scores = contexts(4), logits(size)
    return choice(size, lambda i: mark.sample(scores, ids[i]).token_ids)


case("gumbel-128k", "vLLM", "vllm", "torch path of its native mark")(lambda: vllm_gumbel(LARGE))
case("gumbel-50", "vLLM", "vllm", "torch path, a vocabulary of 50")(lambda: vllm_gumbel(50))


@case("read-gumbel", "vLLM", "vllm", "single key, h = 4, each context once", "gamma p, no log")
def _():
    from vllm.v1.watermarking.gumbel import GumbelWatermarkDetector
    detector = GumbelWatermarkDetector(0x1234_5678_9ABC_DEF0, 4)
    return Reader(lambda ids: detector.detect(ids).num_scored_tokens)


# SGLang

SGLANG_KEY = "123456789abcdef0"


def sglang_gumbel(size):
    core = importlib.import_module("sglang.srt.sampling.watermarking.core")
    key, length = torch.tensor([int(SGLANG_KEY, 16)]), torch.tensor([4])
    ids, probabilities = contexts(4), weights(size)
    return choice(size, lambda i: core.select_watermark_tokens_torch(
        probabilities, core._hash_contexts(ids[i], length), key))


case("gumbel-128k", "SGLang", "sglang", "torch path, from probabilities")(lambda: sglang_gumbel(LARGE))
case("gumbel-50", "SGLang", "sglang", "torch path, a vocabulary of 50")(lambda: sglang_gumbel(50))


@case("gumbel-50-of-128k", "SGLang", "sglang", "torch path with its top-k of 50, from logits")
def _():
    core = importlib.import_module("sglang.srt.sampling.watermarking.core")
    key, length, one = torch.tensor([int(SGLANG_KEY, 16)]), torch.tensor([4]), torch.ones(1, 1)
    ids, clean, eligible = contexts(4), logits(LARGE), torch.tensor([True])
    scores, top_k, top_p, min_p = clean.clone(), torch.tensor([50]), torch.ones(1), torch.zeros(1)

    def call(i):
        core.force_watermark_tokens(
            scores, core._hash_contexts(ids[i], length), eligible, one, top_k, top_p, min_p, key)
        return scores

    def before(i):
        scores.copy_(clean)
    step = choice(LARGE, call, before)
    step.check = chooses(LARGE, lambda i: call(i).argmax(), before)
    return step


@case("read-gumbel", "SGLang", "sglang", "single key, h = 4, each context once, texts of 4,100 tokens", "gamma log p")
def _():
    from sglang.srt.sampling.watermarking.detector import WatermarkDetector
    detector = WatermarkDetector(SGLANG_KEY, context_window=4)
    return Reader(lambda texts: sum(detector.detect_tokens(ids).combined.num_contexts for ids in texts),
                  lambda ids: [ids[i:i + 4100] for i in range(0, len(ids), 4100)])


# llm-watermarking: timed by crate_bench.rs.

for operation, setting, gives in (
    ("green-32k", "from probabilities", ""), ("green-128k", "from probabilities", ""),
    ("gumbel-128k", "from probabilities, keyed by position", ""), ("gumbel-50", "a vocabulary of 50, keyed by position", ""),
    ("gumbel-50-of-128k", "50 of 128,000 weights are not 0, keyed by position", ""),
    ("synthid-128k", "from probabilities", ""), ("synthid-50", "a vocabulary of 50", ""),
    ("synthid-50-of-128k", "50 of 128,000 weights are not 0", ""),
    ("read-green", "h = 4, each n-gram once", "z"), ("read-gumbel", "keyed by position, repeats counted", "mean, no p"),
    ("read-synthid", "each context once", "mean, no p"),
):
    case(operation, "llm-watermarking (Rust)", "llm-watermarking", setting, gives)("crate")
