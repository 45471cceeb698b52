"""Peers that have green lists only: sbw, owmark and ymark."""
import torch

from cases.registry import biased, case, expect, ids_tokenizer
from measure import LARGE, SMALL, Reader, Step, contexts, logits

# sbw: its fused schemes are compiled here as its own server plug-in has them compiled.

def sbw(scheme, size):
    from sbw.batch import WatermarkBatch
    return WatermarkBatch(vocab=list(range(size)), gamma=0.5, delta=2.0, seeding_scheme=scheme, device=torch.device("cpu"))


def sbw_green(size):
    mark, ids, scores = sbw("gpu-simple_1", size), contexts(1), logits(size)
    return Step(lambda i: mark.apply_watermark_fused(ids[i], scores),
                biased(size, 0.5, 2.0, lambda s, i: mark.apply_watermark_fused(ids[i], s)))


def sbw_reference(size):
    mark, ids, scores = sbw("simple_1", size), contexts(1), logits(size)
    apply = lambda s, i: s + mark.get_greenlist_masks(ids[i]) * 2.0
    return Step(lambda i: apply(scores, i), biased(size, 0.5, 2.0, apply))


def sbw_selfhash(size):
    mark, ids, scores = sbw("gpu-fused-selfhash", size), contexts(4), logits(size)

    def check():
        raised = int((mark.apply_watermark_selfsalt_fused(ids[0], scores.clone()) - scores > 1).sum())
        expect(5 < raised < 35, f"{raised} of 40 candidates are green")
    return Step(lambda i: mark.apply_watermark_selfsalt_fused(ids[i], scores), check)


for operation, size in (("32k", SMALL), ("128k", LARGE)):
    case(f"green-{operation}", "sbw", "sbw", "gpu-simple_1, compiled for this CPU")(lambda size=size: sbw_green(size))
    case(f"green-{operation}", "sbw", "sbw", "simple_1: its CPU scheme, after lm-watermarking")(
        lambda size=size: sbw_reference(size))
    case(f"selfhash-{operation}", "sbw", "sbw", "gpu-fused-selfhash, compiled for this CPU")(
        lambda size=size: sbw_selfhash(size))


def sbw_reader(once):
    from sbw.detector import WatermarkDetector
    detector = WatermarkDetector(
        device=torch.device("cpu"), tokenizer=ids_tokenizer(), vocab=list(range(LARGE)), normalizers=[],
        seeding_scheme="gpu-fused-simple_4", ignore_repeated_ngrams=once)
    return Reader(lambda ids: detector.detect(tokenized_text=ids)["num_tokens_scored"], torch.tensor)


case("read-green", "sbw", "sbw", "gpu-fused-simple_4, h = 4, each n-gram once", "normal p")(lambda: sbw_reader(True))
case("read-green", "sbw", "sbw", "gpu-fused-simple_4, h = 4, repeats counted", "normal p")(lambda: sbw_reader(False))


# owmark

def owmark_green(size, cached):
    from owmark.genmark import GenConfig, OWMarkLogitsProcessor
    processor = OWMarkLogitsProcessor(GenConfig(b"0123456789abcdef", gamma=0.5), cache_size=CACHED if cached else 0)
    ids, scores = contexts(1), logits(size)
    call = lambda i: processor(ids[i % CACHED if cached else i], scores)
    if cached:
        for i in range(CACHED):
            call(i)
    return Step(call, biased(size, 0.5, 2.0, lambda s, i: processor(ids[i], s)))


CACHED = 8
for operation, size in (("32k", SMALL), ("128k", LARGE)):
    case(f"green-{operation}", "owmark", "owmark", "first visit of a context")(lambda size=size: owmark_green(size, False))
    case(f"green-{operation}", "owmark", "owmark", "list of the context already in its cache")(
        lambda size=size: owmark_green(size, True))


@case("read-green", "owmark", "owmark", "h = 1, each bigram once", "exact p")
def _():
    from owmark.genmark import GenConfig, green_red
    config = GenConfig(b"0123456789abcdef", gamma=0.5)
    return Reader(lambda ids: green_red.detect(ids, config).n)


# ymark

def ymark_mask(size):
    from _ymark import WatermarkConfigCXX, WatermarkProcessorCXX
    mark = WatermarkProcessorCXX(WatermarkConfigCXX(2.0, 0.5, 1))

    def check():
        mask = mark.get_green_mask(7, size)
        expect(len(mask) == size and abs(sum(mask) / size - 0.5) < 0.02, "no mask")
    return Step(lambda i: mark.get_green_mask(10 + i, size), check)


def ymark_step(size):
    from ymark import WatermarkConfig
    from ymark.integrations.vllm import VLLMWatermarkProcessor
    processor = VLLMWatermarkProcessor(WatermarkConfig(delta=2.0, gamma=0.5, seed=1))
    ids, scores = contexts(1), logits(size)
    return Step(lambda i: processor(ids[i], scores), biased(size, 0.5, 2.0, lambda s, i: processor(ids[i], s)))


for operation, size in (("32k", SMALL), ("128k", LARGE)):
    case(f"green-{operation}", "ymark", "ymark", "mask only, its C++")(lambda size=size: ymark_mask(size))
    case(f"green-{operation}", "ymark", "ymark", "whole step, its vLLM hook")(lambda size=size: ymark_step(size))


@case("read-green", "ymark", "ymark", "h = 1, repeats counted, its detector", "z")
def _():
    from ymark import WatermarkConfig, WatermarkDetector
    detector = WatermarkDetector(WatermarkConfig(gamma=0.5, seed=1), ids_tokenizer())
    return Reader(lambda ids: detector.detect_tokens(ids).num_tokens)


@case("read-green", "ymark", "ymark", "h = 1, repeats counted, count only, its C++", "count, no p")
def _():
    from ymark import WatermarkConfig, WatermarkProcessor
    processor = WatermarkProcessor(WatermarkConfig(gamma=0.5, seed=1))

    def detect(ids):
        green = processor.count_green_tokens(ids)
        expect(0.3 < green / len(ids) < 0.7, "greens are not coins")
        return len(ids) - 1
    return Reader(detect)
