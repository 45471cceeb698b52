"""Other engines as writers: what they call when they write, with keys derived from ours."""
from importlib import metadata

import torch

from matrix.model import once, ordinary


def vllm(key, dual):
    """Its samplers for a CPU. A server of vLLM takes its Triton kernels, which draw the same words."""
    from vllm.v1.watermarking import gumbel
    if dual:
        mark = gumbel.DualKeyGumbelWatermarker(key, 4)
        return once(lambda logits, windows: mark.sample(logits, windows, ordinary).token_ids)
    mark = gumbel.GumbelWatermarker(key, 4)
    return once(lambda logits, windows: mark.sample(logits, windows).token_ids)


def sglang(keys):
    from sglang.srt.sampling.watermarking import core
    from sglang.srt.sampling.watermarking.config import parse_watermark_key
    signed = [torch.tensor([parse_watermark_key(f"{key:x}")]) for key in keys]
    dual = dict(keys_b=signed[1], mixing_thresholds=torch.tensor([1 << 31])) if len(keys) > 1 else {}

    def choose(logits, windows):
        rows = len(windows)
        hashes = core._hash_contexts(windows, torch.tensor([4] * rows))
        wide = {name: value.expand(rows) for name, value in dual.items()}
        return core.select_watermark_tokens_torch(torch.softmax(logits, -1), hashes, signed[0].expand(rows), **wide)
    return once(choose)


def textseal(model, key):
    from textseal.common.watermark.core import WatermarkConfig
    from textseal.posthoc.generator import build_generator
    causal, tokenizer, _ = model.open()
    mark = build_generator(causal, tokenizer, WatermarkConfig(secret_key=key, ngram=4, watermark_type="gumbelmax"))
    return once(lambda logits, windows: mark.sample_next(logits, windows, temperature=1.0, top_p=1.0))


def synthid_text(keys):
    """Keeps its own state: the windows and which of them came before. Begins with a window of zeros."""
    from synthid_text.logits_processing import SynthIDLogitsProcessor
    mark = SynthIDLogitsProcessor(
        ngram_len=5, keys=keys, sampling_table_size=2**16, sampling_table_seed=0, context_history_size=1024,
        temperature=1.0, top_k=100, device=torch.device("cpu"))

    def choose(logits, written):
        last = torch.tensor([row[-1:] or [0] for row in written])
        scores, tokens, _ = mark.watermarked_call(last, logits)
        return torch.gather(tokens, 1, torch.multinomial(torch.softmax(scores, -1), 1))[:, 0]
    return choose


def theirs(model, keys):
    """(writer, mark, how, make) of every engine that runs here."""
    from transformers import SynthIDTextWatermarkingConfig, WatermarkingConfig
    transformers = f"transformers {metadata.version('transformers')}"
    for scheme, width in (("lefthash", 1), ("selfhash", 4)):
        mark = f"hf-kgw-{scheme}"
        config = WatermarkingConfig(
            greenlist_ratio=0.25, bias=2.0, seeding_scheme=scheme, hashing_key=keys.integers(mark)[0], context_width=width)
        yield transformers, mark, "generate()", lambda c=config: model.generate(c)
    config = SynthIDTextWatermarkingConfig(keys=keys.integers("hf-synthid"), ngram_len=5)
    yield transformers, "hf-synthid", "generate()", lambda: model.generate(config)
    plain = "its torch sampler in a plain loop, a window once"
    for dual in (False, True):
        name = "dual-key-gumbel" if dual else "gumbel"
        key = keys.integers(f"vllm-{name}")[0]
        yield "vLLM 0.33.0", f"vllm-{name}", plain, lambda k=key, d=dual: model.loop(vllm(k, d))
        pair = keys.integers(f"sglang-{name}")
        yield "SGLang 0.5.23", f"sglang-{name}", plain, lambda k=pair: model.loop(sglang(k))
    yield ("TextSeal 0.0.5", "textseal-gumbel", plain,
           lambda: model.loop(textseal(model, keys.integers("textseal-gumbel")[0])))
    yield ("synthid-text 0.2.1", "hf-synthid", "its logits processor in a plain loop, top-k 100",
           lambda: model.loop(synthid_text(keys.integers("hf-synthid"))))
