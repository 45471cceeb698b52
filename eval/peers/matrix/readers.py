"""Other engines as readers. Each is `read(answers, mark, key)` and gives (log10 p, tokens scored).

Most test one document, so an answer at a time is given to them and their p-values are joined by Fisher's method, which is exact
for independent ones. Where an engine gives no p, that is said.
"""
import math
from types import SimpleNamespace

import torch
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

from matrix.keys import VOCABULARY

# The smallest positive float: an upper bound for a p-value that a detector gave as 0.
LEAST = 5e-324


def fisher(logs):
    """log10 of one p from the natural logarithms of several: -2 sum ln p is chi-square with twice their number of degrees."""
    half, n = -sum(logs), len(logs)
    if half <= 0:
        return 0.0
    terms = [k * math.log(half) - gammaln(k + 1) for k in range(n)]
    return min(0.0, (-half + logsumexp(terms)) / math.log(10))


def normal(z):
    return float(norm.logsf(z) / math.log(10))


def vllm(answers, mark, key):
    from vllm.v1.watermarking import gumbel
    kind = gumbel.DualKeyGumbelWatermarkDetector if "dual" in mark else gumbel.GumbelWatermarkDetector
    found = [kind(key[0], 4, deduplicate_contexts=True).detect(answer) for answer in answers]
    return fisher([math.log(f.p_value or LEAST) for f in found]), sum(f.num_scored_tokens for f in found)


def sglang(answers, mark, key):
    from sglang.srt.sampling.watermarking.detector import WatermarkDetector
    second = dict(key_b=f"{key[1]:x}") if len(key) > 1 else {}
    detector = WatermarkDetector(f"{key[0]:x}", context_window=4, **second)
    found = [detector.detect_tokens(answer).combined for answer in answers]
    return fisher([f.log_p_value for f in found]), sum(f.num_contexts for f in found)


def kgw(answers, mark, key):
    from transformers import WatermarkDetector, WatermarkingConfig
    scheme = mark.removeprefix("hf-kgw-")
    config = WatermarkingConfig(
        greenlist_ratio=0.25, bias=2.0, seeding_scheme=scheme, context_width=4 if scheme == "selfhash" else 1,
        hashing_key=key[0])
    model = SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False, vocab_size=VOCABULARY)
    detector = WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=True)
    found = [detector(torch.tensor([answer]), return_dict=True) for answer in answers]
    n = [int(f.num_tokens_scored[0]) for f in found]
    z = sum(math.sqrt(k) * float(f.z_score[0]) for k, f in zip(n, found)) / math.sqrt(sum(n))
    return normal(z), sum(n)


def g_values(processor, answers):
    """The mean of the g-values where the context is new, as a z-score of fair coins."""
    kept = []
    for answer in answers:
        ids = torch.tensor([answer])
        kept.append(processor.compute_g_values(ids)[processor.compute_context_repetition_mask(ids).bool()])
    values = torch.cat(kept).double()
    return normal((values.mean().item() - 0.5) * math.sqrt(4 * values.numel())), len(values)


def synthid_transformers(answers, mark, key):
    from transformers import SynthIDTextWatermarkLogitsProcessor
    return g_values(SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5, keys=key, sampling_table_size=2**16, sampling_table_seed=0, context_history_size=1024, device="cpu"),
        answers)


def synthid_text(answers, mark, key):
    from synthid_text.logits_processing import SynthIDLogitsProcessor
    return g_values(SynthIDLogitsProcessor(
        ngram_len=5, keys=key, sampling_table_size=2**16, sampling_table_seed=0, context_history_size=1024, temperature=1.0,
        top_k=100, device=torch.device("cpu")), answers)


def textseal(answers, mark, key):
    from textseal.common.watermark.core import WatermarkConfig
    from textseal.posthoc.detector import build_detector
    ids = SimpleNamespace(encode=lambda ids, **_: ids, vocab_size=VOCABULARY)
    detector = build_detector(ids, WatermarkConfig(secret_key=key[0], ngram=4, watermark_type="gumbelmax"))
    # Without a set of its own, "v2" counts repeats.
    scores = detector.get_scores_by_t(answers, scoring_method="v2", seen_windows=set())
    ps = [float(detector.get_pvalues([row])[0]) for row in scores]
    return fisher([math.log(p) for p in ps]), sum(map(len, scores))


EACH = "its detector, an answer at a time; Fisher"
NOMINAL = "its g-values and mask; normal p of their mean (it has no p)"
READERS = {
    "vllm": [("vLLM 0.33.0", EACH, vllm)],
    "sglang": [("SGLang 0.5.23", EACH, sglang)],
    "hf-kgw": [("transformers", "its detector, an answer at a time; z-scores joined, normal p", kgw)],
    "hf-synthid": [("transformers", NOMINAL, synthid_transformers), ("synthid-text 0.2.1", NOMINAL, synthid_text)],
    "textseal": [("TextSeal 0.0.5", "its detector, an answer at a time, repeats left out; Fisher", textseal)],
}


def of(mark):
    """The readers of a mark's own engines."""
    return next((readers for prefix, readers in READERS.items() if mark.startswith(prefix)), [])
