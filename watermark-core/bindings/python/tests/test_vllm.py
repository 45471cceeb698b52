"""The vLLM adapter against stand-ins of what vLLM hands over: the objects of both interfaces, by the fields that are read.

The stand-ins keep to vLLM 0.33: `BatchUpdate` with removed, added and moved; `expanded_idx_mapping`, `pos`,
`prompt_len.np` and `all_token_ids.gpu`.
"""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import KEY, MASTER_LINE, OTHER_KEY, flat_model
from watermark import Detector, Scheme
from watermark.vllm import CONFIG_VARIABLE, Config, Processor

VOCABULARY = 500


class Direction(enum.Enum):
    UNIDIRECTIONAL = 1
    SWAP = 2


def params(**given) -> SimpleNamespace:
    return SimpleNamespace(**{"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "seed": None, "extra_args": None, **given})


def update(removed=(), added=(), moved=()) -> SimpleNamespace:
    return SimpleNamespace(removed=list(removed), added=list(added), moved=list(moved))


def vllm_config(**given) -> SimpleNamespace:
    return SimpleNamespace(**{"speculative_config": None, "additional_config": {}, **given})


@pytest.fixture
def configure(tmp_path, key_file, monkeypatch):
    def make(profile="gumbel-dual-h2", *, env=True, name="wm.json", **fields):
        key_file(name="provider.key")
        path = tmp_path / name
        path.write_text(json.dumps({"profile": profile, "key_file": "provider.key", "epoch": "2026q4", **fields}))
        if env:
            monkeypatch.setenv(CONFIG_VARIABLE, str(path))
        return path

    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    return make


def log10_p(profile: str, text: list[int], key: bytes | None = None) -> float:
    mark = Scheme(profile, slot_key=key) if key else Scheme(profile, key_line=MASTER_LINE, epoch="2026q4")
    detector = Detector(mark)
    detector.push(text)
    return detector.result().log10_p


def truncate(logits: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """What the engine does after its processors."""
    out = logits.astype(np.float64).copy()
    order = np.argsort(-out, kind="stable")
    if top_k > 0:
        out[order[top_k:]] = -np.inf
    weights = np.exp(out - out.max())
    sums = np.cumsum(weights[order]) / weights.sum()
    out[order[1:][sums[:-1] >= top_p]] = -np.inf
    return out


def draw(logits: np.ndarray, rng: np.random.Generator) -> int:
    weights = np.exp(logits - logits.max())
    return int(rng.choice(len(weights), p=weights / weights.sum()))


class V1:
    """The order of vLLM's V1 sampler: processors that change the argmax, temperature, the others, top-k and top-p."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        self.rows: list[tuple[SimpleNamespace, list[int]]] = []
        self.rng = np.random.default_rng(1)

    def step(self) -> None:
        logits = np.tile(flat_model(VOCABULARY), (len(self.rows), 1))
        if not self.processor.is_argmax_invariant():
            assert self.processor.apply(logits) is logits
        greedy = logits.argmax(axis=1)
        for row, (request, _) in zip(logits, self.rows):
            row /= np.float32(max(request.temperature, 1e-5)) if request.temperature >= 1e-5 else np.float32(1)
        if self.processor.is_argmax_invariant():
            self.processor.apply(logits)
        for index, (request, output) in enumerate(self.rows):
            row = truncate(logits[index], request.top_k, request.top_p)
            output.append(int(greedy[index]) if request.temperature < 1e-5 else draw(row, self.rng))


PROFILES = ["greenlist-h1", "gumbel-dual-h2", "tournament-h2"]


@pytest.mark.parametrize("profile", PROFILES)
def test_v1_marks_every_request_wherever_it_moves(configure, profile: str) -> None:
    """H0: text and key independent; p < 1e-10 under the key for each of three requests, above 1e-4 under another."""
    configure(profile)
    processor = Processor(vllm_config(), "cpu", False)
    engine = V1(processor)
    requests = [params(), params(temperature=0.7, top_k=100), params(temperature=1.2, top_p=0.9, seed=11)]
    outputs: list[list[int]] = [[], [], []]
    engine.rows = list(zip(requests, outputs))
    processor.update_state(update(added=[(i, requests[i], [1, 2], outputs[i]) for i in range(3)]))
    for _ in range(60):
        engine.step()
        processor.update_state(None)
    # 0 and 2 change places; then 1 ends and 2 moves into its row.
    engine.rows[0], engine.rows[2] = engine.rows[2], engine.rows[0]
    processor.update_state(update(moved=[(0, 2, Direction.SWAP)]))
    for _ in range(60):
        engine.step()
    engine.rows[1] = engine.rows.pop()
    processor.update_state(update(removed=[1], moved=[(2, 1, Direction.UNIDIRECTIONAL)]))
    assert sorted(processor.requests) == [0, 1]
    for _ in range(60):
        engine.step()
    # A new request takes the row of one that was removed.
    late: list[int] = []
    engine.rows[0] = (params(), late)
    processor.update_state(update(removed=[0], added=[(0, engine.rows[0][0], [], late)]))
    for _ in range(150):
        engine.step()
    for text in [*outputs, late]:
        assert log10_p(profile, text) < -10
        assert log10_p(profile, text, OTHER_KEY) > -4
    counts = processor.requests[0].row.session.counts
    assert counts["marked"] > 120 and counts["partial_context"] <= 4


class Tensor(SimpleNamespace):
    """`StagedWriteTensor` and `UvaBackedTensor`: an array under the names that are read."""


class V2:
    """Slots, rows in another order at every step, and a row for every request in the batch."""

    def __init__(self, processor: Processor, table: SimpleNamespace) -> None:
        self.processor, self.table = processor, table
        self.rng = np.random.default_rng(2)
        self.requests: dict[int, SimpleNamespace] = {}

    def add(self, slot: int, request: SimpleNamespace, prompt: list[int], output: list[int] = []) -> bool:  # noqa: B006
        self.requests[slot] = request
        tokens = prompt + output
        self.table.all_token_ids.gpu[slot, : len(tokens)] = tokens
        self.table.prompt_len.np[slot] = len(prompt)
        self.table.total_len.gpu[slot] = len(tokens)
        return self.processor.add_request(slot, request)

    def output(self, slot: int) -> list[int]:
        start, end = self.table.prompt_len.np[slot], self.table.total_len.gpu[slot]
        return self.table.all_token_ids.gpu[slot, start:end].tolist()

    def step(self) -> None:
        slots = self.rng.permutation(sorted(self.requests))
        logits = np.tile(flat_model(VOCABULARY), (len(slots), 1))
        lengths = self.table.total_len.gpu[slots]
        ctx = SimpleNamespace(expanded_idx_mapping=slots, pos=lengths - 1)
        assert self.processor.apply(logits, ctx) is logits
        for row, slot in zip(logits, slots):
            request = self.requests[slot]
            if request.temperature < 1e-5:
                token = int(row.argmax())
            else:
                row = row.astype(np.float64) / request.temperature
                if request.min_p:
                    row[row < row.max() + np.log(request.min_p)] = -np.inf
                token = draw(truncate(row, request.top_k, request.top_p), self.rng)
            self.table.all_token_ids.gpu[slot, self.table.total_len.gpu[slot]] = token
            self.table.total_len.gpu[slot] += 1


def table(slots: int = 4, length: int = 400) -> SimpleNamespace:
    return SimpleNamespace(
        all_token_ids=Tensor(gpu=np.zeros((slots, length), np.int32)),
        prompt_len=Tensor(np=np.zeros(slots, np.int32)),
        total_len=Tensor(gpu=np.zeros(slots, np.int32)),
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_v2_marks_every_request_in_any_order_of_rows(configure, profile: str) -> None:
    configure(profile)
    requests = table()
    processor = Processor(vllm_config(), requests)
    engine = V2(processor, requests)
    assert engine.add(2, params(), [5, 6, 7])
    assert engine.add(0, params(temperature=0.7, top_k=100), [5])
    assert engine.add(3, params(temperature=1.2, top_p=0.9, min_p=0.01), [9] * 5)
    for _ in range(100):
        engine.step()
    # Slot 0 is preempted and comes back with what it had written.
    before = engine.output(0)
    assert engine.add(0, engine.requests[0], [5], before)
    for _ in range(100):
        engine.step()
    for slot in engine.requests:
        text = engine.output(slot)
        assert len(text) == 200
        assert log10_p(profile, text) < -10
        assert log10_p(profile, text, OTHER_KEY) > -4
    assert processor.requests[2].row.session.tokens.tolist() == engine.output(2)[:-1]


def test_v2_a_prompt_in_pieces_has_no_output(configure) -> None:
    configure("gumbel-h2")
    requests = table()
    processor = Processor(vllm_config(), requests)
    V2(processor, requests).add(1, params(), [5, 6, 7, 8])
    logits = flat_model()[None].copy()
    processor.apply(logits, SimpleNamespace(expanded_idx_mapping=np.array([1]), pos=np.array([1])))
    assert (logits[0] == flat_model()).all() and len(processor.requests[1].row.session) == 0
    with pytest.raises(ValueError, match="speculative"):
        processor.apply(
            np.tile(flat_model(), (2, 1)), SimpleNamespace(expanded_idx_mapping=np.array([1, 1]), pos=np.array([4, 5]))
        )


def test_a_token_that_is_not_known_yet_leaves_its_row_alone(configure) -> None:
    configure("gumbel-h2")
    processor = Processor(vllm_config(), "cpu", False)
    output = [1, 2, 3, -1]
    processor.update_state(update(added=[(0, params(), [], output)]))
    logits = flat_model()[None].copy()
    processor.apply(logits)
    assert (logits[0] == flat_model()).all() and len(processor.requests[0].row.session) == 0
    output[3] = 4
    processor.apply(logits)
    assert np.isfinite(logits[0]).sum() == 1
    assert processor.requests[0].row.session.tokens.tolist() == [1, 2, 3, 4]


def test_greedy_requests_carry_a_green_list_and_nothing_else(configure) -> None:
    configure("gumbel-h2", enforced=False)
    processor = Processor(vllm_config(), "cpu", False)
    output = [1, 2, 3]
    processor.update_state(update(added=[(0, params(temperature=0.0), [], output)]))
    logits = flat_model()[None].copy()
    processor.apply(logits)
    assert (logits[0] == flat_model()).all()
    output.append(4)
    processor.apply(logits)
    assert processor.requests[0].row.session.counts["greedy"] == 1

    configure("greenlist-h1", name="green.json")
    green = Processor(vllm_config(), "cpu", False)
    engine = V1(green)
    text: list[int] = []
    engine.rows = [(params(temperature=0.0), text)]
    green.update_state(update(added=[(0, engine.rows[0][0], [], text)]))
    logits = flat_model()[None].copy()
    text.append(1)
    green.apply(logits)
    assert not green.is_argmax_invariant() and set(np.unique(logits[0] - flat_model()).round(3)) == {0.0, 3.0}


def test_a_request_cannot_choose_its_key_nor_switch_an_enforced_mark_off(configure) -> None:
    configure("gumbel-h2")
    Processor.validate_params(params())
    for extra, match in [
        ({"watermark_key": "abc"}, "the server's"),
        ({"watermark": {"key": 1}}, "the server's"),
        ({"watermark": 0}, "the server's"),
        ({"watermark": False}, "cannot switch that off"),
    ]:
        with pytest.raises(ValueError, match=match):
            Processor.validate_params(params(extra_args=extra))
        with pytest.raises(ValueError, match=match):
            Processor(vllm_config(), table()).add_request(0, params(extra_args=extra))
    Processor.validate_params(params(extra_args={"watermark": True, "other": 1}))
    with pytest.raises(ValueError, match="temperature is 0"):
        Processor.validate_params(params(temperature=0.0))

    configure("gumbel-h2", name="free.json", enforced=False)
    off = params(extra_args={"watermark": False})
    Processor.validate_params(off)
    Processor.validate_params(params(temperature=0.0))
    processor = Processor(vllm_config(), table())
    assert processor.add_request(0, off) is False and processor.add_request(1, params()) is True
    with pytest.raises(ValueError, match="the server's"):
        Processor.validate_params(params(extra_args={"watermark_key": "abc"}))

    configure("greenlist-h1", name="green.json")
    Processor.validate_params(params(temperature=0.0))


def test_speculative_decoding_and_no_configuration_are_refused(configure, tmp_path) -> None:
    with pytest.raises(ValueError, match=CONFIG_VARIABLE):
        Processor(vllm_config(), "cpu", False)
    path = configure("gumbel-h2")
    for arguments in [("cpu", False), (table(),)]:
        with pytest.raises(ValueError, match="speculative"):
            Processor(vllm_config(speculative_config={"method": "ngram"}), *arguments)
    same = vllm_config(additional_config={"watermark": str(path)})
    assert Processor(same, "cpu", False).config.scheme.profile_id == "gumbel-h2"
    other = configure("greenlist-h1", name="other.json", env=False)
    with pytest.raises(ValueError, match="two configurations"):
        Processor(vllm_config(additional_config={"watermark": str(other)}), "cpu", False)
    with pytest.raises(ValueError, match="path of a configuration file"):
        Processor(vllm_config(additional_config={"watermark": {"profile": "gumbel-h2"}}), "cpu", False)


def test_additional_config_alone_is_enough(configure) -> None:
    path = configure("gumbel-h2", env=False)
    processor = Processor(vllm_config(additional_config={"watermark": str(path)}), "cpu", False)
    assert processor.config.scheme.profile_id == "gumbel-h2" and processor.config.enforced


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"slot_key": KEY.hex()}, "file of its own"),
        ({"key_line": "WMK"}, "file of its own"),
        ({"colour": "red"}, r"unknown field \['colour'\]"),
        ({"enforced": "yes"}, "true or false"),
        ({"profile": "nothing"}, "no profile `nothing`"),
        ({"profile": "missing.json"}, "missing.json"),
        ({"key_file": "missing.key"}, "missing.key"),
        ({"profile": None}, "profile"),
        ({"slot": 40}, "decoy slot"),
    ],
)
def test_a_bad_configuration_is_named(configure, change: dict, match: str) -> None:
    path = configure(env=False)
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, **change}))
    with pytest.raises((ValueError, TypeError, OSError), match=match) as refused:
        Config.read(path)
    assert KEY.hex() not in str(refused.value)
    path.write_text("{")
    with pytest.raises(ValueError, match=path.name):
        Config.read(path)
    path.write_text('{"profile": "gumbel-h2"}')
    with pytest.raises(ValueError, match="key_file"):
        Config.read(path)


def test_a_changed_configuration_is_read_again(configure) -> None:
    import os

    path = configure("gumbel-h2")
    with pytest.raises(ValueError):
        Processor.validate_params(params(temperature=0.0))
    configure("gumbel-h2", enforced=False)
    os.utime(path, ns=(1, 1))
    Processor.validate_params(params(temperature=0.0))
