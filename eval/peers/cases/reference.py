"""torch without a mark, transformers, synthid-text and MarkLLM."""
import importlib
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from cases.registry import biased, case, choice, expect, ids_tokenizer, reweights
from measure import LARGE, SMALL, Reader, Step, contexts, logits, weights

# Reference: what an unmarked step costs.

@case("gumbel-128k", "torch", "torch", "softmax and multinomial: the unmarked choice", "no mark")
def _():
    scores = logits(LARGE)
    return choice(LARGE, lambda i: torch.multinomial(torch.softmax(scores, -1), 1))


# transformers

def lefthash(size, gamma):
    from transformers.generation.logits_process import WatermarkLogitsProcessor
    processor = WatermarkLogitsProcessor(size, "cpu", greenlist_ratio=gamma, seeding_scheme="lefthash", context_width=1)
    ids, scores = contexts(1), logits(size)
    return Step(lambda i: processor(ids[i], scores), biased(size, gamma, 2.0, lambda s, i: processor(ids[i], s)))


case("green-32k", "transformers", "transformers", "lefthash")(lambda: lefthash(SMALL, 0.5))
case("green-128k", "transformers", "transformers", "lefthash")(lambda: lefthash(LARGE, 0.5))
case("quarter-128k", "transformers", "transformers", "lefthash, its default gamma")(lambda: lefthash(LARGE, 0.25))


def selfhash(size):
    from transformers.generation.logits_process import WatermarkLogitsProcessor
    processor = WatermarkLogitsProcessor(size, "cpu", greenlist_ratio=0.5, seeding_scheme="selfhash", context_width=4)
    ids, scores = contexts(4), logits(size)

    def check():
        raised = int((processor(ids[0], scores) - scores > 1).sum())
        expect(5 < raised < 35, f"{raised} of 40 candidates are green")
    return Step(lambda i: processor(ids[i], scores), check)


case("selfhash-32k", "transformers", "transformers", "selfhash")(lambda: selfhash(SMALL))
case("selfhash-128k", "transformers", "transformers", "selfhash")(lambda: selfhash(LARGE))

KEYS = list(range(101, 131))


def transformers_synthid():
    from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor
    return SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5, keys=KEYS, sampling_table_size=65_536, sampling_table_seed=0, context_history_size=1024,
        device=torch.device("cpu"))


def transformers_tournament(size):
    processor = transformers_synthid()
    ids, scores = contexts(5), logits(size)
    call = lambda i: processor(ids[i], scores)
    return Step(call, reweights(call, scores))


case("synthid-128k", "transformers", "transformers", "whole vocabulary; it has no other path")(
    lambda: transformers_tournament(LARGE))
case("synthid-50", "transformers", "transformers", "a vocabulary of 50")(lambda: transformers_tournament(50))


@case("read-green", "transformers", "transformers", "lefthash, each bigram once", "normal p")
def _():
    from transformers.generation.watermarking import WatermarkDetector
    config = {"greenlist_ratio": 0.5, "bias": 2.0, "hashing_key": 15485863, "seeding_scheme": "lefthash", "context_width": 1}
    model = SimpleNamespace(bos_token_id=1, is_encoder_decoder=False, vocab_size=LARGE)
    detector = WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=True)
    return Reader(lambda ids: int(detector(ids, return_dict=True).num_tokens_scored[0]), lambda t: torch.tensor([t]))


def g_values(processor, mask):
    def detect(ids):
        values = processor.compute_g_values(ids)
        if not mask:
            expect(0.45 < values.float().mean().item() < 0.55, "g-values are not coins")
            return values.shape[1]
        kept = processor.compute_context_repetition_mask(ids)
        (values.float().mean(-1) * kept).sum() / kept.sum()
        return int(kept.sum())
    return Reader(detect, lambda t: torch.tensor([t]))


case("read-synthid", "transformers", "transformers", "g-values with its repetition mask", "mean, no p")(
    lambda: g_values(transformers_synthid(), True))
case("read-synthid", "transformers", "transformers", "g-values without the mask", "mean, no p")(
    lambda: g_values(transformers_synthid(), False))


# synthid-text

def synthid_text(size, top_k=None):
    from synthid_text.logits_processing import SynthIDLogitsProcessor
    return SynthIDLogitsProcessor(
        ngram_len=5, keys=KEYS, sampling_table_size=65_536, sampling_table_seed=0, context_history_size=1024,
        temperature=1.0, top_k=top_k or min(size, 50), device=torch.device("cpu"), apply_top_k=top_k is not None)


def synthid_text_tournament(size, top_k=None):
    processor = synthid_text(size, top_k)
    ids, scores = contexts(5), logits(size)
    reference = torch.topk(scores, top_k).values if top_k else scores
    call = lambda i: processor.watermarked_call(ids[i], scores)[0]
    return Step(call, reweights(call, reference))


case("synthid-128k", "synthid-text", "synthid-text", "whole vocabulary")(lambda: synthid_text_tournament(LARGE))
case("synthid-50", "synthid-text", "synthid-text", "a vocabulary of 50")(lambda: synthid_text_tournament(50))
case("synthid-50-of-128k", "synthid-text", "synthid-text", "its top-k of 50")(lambda: synthid_text_tournament(LARGE, 50))
case("read-synthid", "synthid-text", "synthid-text", "g-values with its repetition mask", "mean, no p")(
    lambda: g_values(synthid_text(LARGE), True))
case("read-synthid", "synthid-text", "synthid-text", "g-values without the mask", "mean, no p")(
    lambda: g_values(synthid_text(LARGE), False))


# MarkLLM


def markllm(name, size):
    package = importlib.import_module(f"markllm.watermark.{name.lower()}.{name.lower()}")
    from markllm.utils.transformers_config import TransformersConfig
    model = TransformersConfig(None, ids_tokenizer(), vocab_size=size, device="cpu")

    def build(**settings):
        default = Path(package.__file__).parents[2] / "config" / f"{name}.json"
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(json.loads(default.read_text()) | settings))
            file.flush()
            return getattr(package, name)(file.name, model)
    return build


def markllm_green(size):
    mark = markllm("KGW", size)(prefix_length=1)
    ids, scores = contexts(1), logits(size)
    return Step(lambda i: mark.logits_processor(ids[i], scores),
                biased(size, 0.5, 2.0, lambda s, i: mark.logits_processor(ids[i], s)))


case("green-32k", "MarkLLM", "markllm", "KGW, left")(lambda: markllm_green(SMALL))
case("green-128k", "MarkLLM", "markllm", "KGW, left")(lambda: markllm_green(LARGE))


def markllm_gumbel(size, top_k=0):
    mark = markllm("EXP", size)(top_k=top_k)
    ids, probabilities = [row[0] for row in contexts(4)], weights(size)

    def call(i):
        mark.utils.seed_rng(ids[i])
        return mark.utils.exp_sampling(probabilities, torch.rand(size, generator=mark.utils.rng).unsqueeze(0))
    return choice(size, call)


case("gumbel-128k", "MarkLLM", "markllm", "EXP, from probabilities")(lambda: markllm_gumbel(LARGE))
case("gumbel-50", "MarkLLM", "markllm", "EXP, a vocabulary of 50")(lambda: markllm_gumbel(50))
case("gumbel-50-of-128k", "MarkLLM", "markllm", "EXP, its top-k of 50")(lambda: markllm_gumbel(LARGE, 50))


@case("read-green", "MarkLLM", "markllm", "KGW, left, h = 4, repeats counted", "z")
def _():
    mark = markllm("KGW", LARGE)(prefix_length=4)

    def detect(ids):
        z, flags = mark.utils.score_sequence(ids)
        return sum(flag >= 0 for flag in flags)
    return Reader(detect, torch.tensor)


@case("read-gumbel", "MarkLLM", "markllm", "EXP, h = 4, repeats counted", "gamma p")
def _():
    mark = markllm("EXP", LARGE)()

    def detect(ids):
        expect(mark.detect_watermark(ids)["score"] > 1e-6, "a mark in random text")
        return ids.shape[1] - 4
    return Reader(detect, lambda t: torch.tensor([t]))
