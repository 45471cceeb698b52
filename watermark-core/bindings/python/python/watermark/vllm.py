"""A mark inside vLLM, for both of its sampler interfaces: ``LLM(..., logits_processors=["watermark.vllm:Processor"])``.

The configuration is a JSON file, named by the environment variable ``WATERMARK_CONFIG`` or by vLLM's
``additional_config={"watermark": "/path/config.json"}``::

    {"profile": "gumbel-dual-h2", "key_file": "provider.key", "epoch": "2026q4", "slot": 0, "enforced": true}

It names the key's file and never holds the key. ``profile`` is a name, an object, or the path of a file that ends in
``.json``. With ``enforced`` (the default) a request that asks for no mark is refused, and so is a greedy
one, which a Gumbel or tournament mark cannot mark (the frontend process needs the environment variable to know).

Where it comes in: V1 calls a processor that is argmax-invariant behind temperature and min-p, and before top-k and
top-p; V2 calls every processor before all of them. A Gumbel or tournament mark must choose from what they leave, so it
applies those that are still to come itself and leaves one entry of the row finite. A green list adds its bonus times the
temperature before the temperature divides it. It truncates nothing: top-k and top-p act on the biased row.

A CPU cannot keep up with the per-token loop of a GPU engine. vLLM 0.30 and newer has a Gumbel mark of its own on CUDA,
and ``watermark.engines`` writes its configuration and reads its mark: prefer it there.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._rows import GREEDY, Row
from ._watermark import Scheme

__all__ = ["CONFIG_VARIABLE", "Processor"]

CONFIG_VARIABLE = "WATERMARK_CONFIG"
"""The environment variable that names the configuration file."""

_FIELDS = {"profile", "key_file", "epoch", "slot", "account", "enforced", "seed"}


class Config:
    """The server's choice: which mark, and whether a request may go without."""

    def __init__(self, scheme: Scheme, *, enforced: bool, seed: int | None) -> None:
        self.scheme = scheme
        self.enforced = enforced
        self.seed = seed

    @staticmethod
    def read(path: Path) -> Config:
        """Reads a configuration file; paths in it are relative to it."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: {error}") from None
        if not isinstance(fields, dict):
            raise ValueError(f"{path}: the configuration is an object with fields {sorted(_FIELDS)}")
        secret = {"key", "key_line", "slot_key", "master_key"} & fields.keys()
        if secret:
            raise ValueError(f"{path}: field {sorted(secret)}: a key stands in a file of its own, mode 600; name it in key_file")
        unknown = fields.keys() - _FIELDS
        if unknown:
            raise ValueError(f"{path}: unknown field {sorted(unknown)}; fields are {sorted(_FIELDS)}")
        missing = {"profile", "key_file"} - fields.keys()
        if missing:
            raise ValueError(f"{path}: field {sorted(missing)} is missing")
        enforced = fields.get("enforced", True)
        if not isinstance(enforced, bool):
            raise ValueError(f"{path}: field `enforced` is {enforced!r}; it must be true or false")
        profile = fields["profile"]
        if isinstance(profile, str) and profile.endswith(".json"):
            profile = path.parent / profile
        scheme = Scheme(
            profile,
            key_file=path.parent / fields["key_file"],
            epoch=fields.get("epoch"),
            slot=fields.get("slot"),
            account=fields.get("account", 0),
        )
        return Config(scheme, enforced=enforced, seed=fields.get("seed"))

    @staticmethod
    def find(vllm_config: Any = None) -> Config | None:
        """The configuration of this process, if one is named."""
        named = os.environ.get(CONFIG_VARIABLE)
        additional = getattr(vllm_config, "additional_config", None)
        own = additional.get("watermark") if isinstance(additional, dict) else None
        if own is not None and not isinstance(own, (str, os.PathLike)):
            raise ValueError('additional_config["watermark"] is the path of a configuration file, which names the key\'s file')
        if named and own and Path(named) != Path(own):
            raise ValueError(f"{CONFIG_VARIABLE} and additional_config name two configurations; keep one")
        path = named or own
        if not path:
            return None
        return _read(Path(path), Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Config:
    # Every request is validated, and a file is read again only when it has changed.
    return Config.read(path)


class Request:
    """One request in the batch."""

    def __init__(self, config: Config, params: Any, *, stream: int = 0) -> None:
        self.temperature = float(_parameter(params, "temperature", 1.0))
        self.top_p = float(_parameter(params, "top_p", 1.0))
        self.top_k = int(_parameter(params, "top_k", 0))
        self.min_p = float(_parameter(params, "min_p", 0.0))
        self.off = not _wanted(config.enforced, params)
        self.bias = config.scheme.is_bias
        # A request's own seed repeats its coins, as it repeats the engine's draws; it does not touch the key.
        seed = _parameter(params, "seed", None)
        self.row = Row(config.scheme, seed=config.seed if seed is None else int(seed) % 2**64, stream=stream)

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY

    def mark(self, tokens: Sequence[int], logits: NDArray[np.float32], *, after_temperature: bool) -> bool:
        """Marks a row of logits in place, given the request's output so far; whether it changed."""
        if len(tokens) > 0 and tokens[-1] < 0:
            # Asynchronous scheduling writes -1 until a token is known; vLLM fills it in before it calls a processor.
            self.row.skip("disabled")
            return False
        self.row.follow(tokens)
        if self.off:
            self.row.skip("disabled")
        elif self.bias:
            return self.row.mark(logits, temperature=0.0 if self.greedy else self.temperature).marked
        elif self.greedy:
            self.row.skip("greedy")
        elif after_temperature:
            return self.row.mark(logits, top_p=self.top_p, top_k=self.top_k).marked
        else:
            decision = self.row.mark(
                logits, temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p
            )
            return decision.marked
        return False


def _parameter(params: Any, name: str, default: Any) -> Any:
    given = getattr(params, name, None)
    return default if given is None else given


def _wanted(enforced: bool, params: Any) -> bool:
    """Whether a request takes the mark. Refuses what a request must not say."""
    extra = getattr(params, "extra_args", None) or {}
    ours = {name: value for name, value in extra.items() if name.startswith("watermark")}
    if not ours:
        return True
    if ours.keys() != {"watermark"} or not isinstance(ours["watermark"], bool):
        raise ValueError(
            f"extra_args {sorted(ours)}: key and profile are the server's, a request cannot bring its own; a request may "
            'say "watermark": false where the server allows that'
        )
    if ours["watermark"] is False and enforced:
        raise ValueError("this server marks every answer; a request cannot switch that off")
    return ours["watermark"]


if TYPE_CHECKING:

    class _V1:
        pass

    class _V2:
        pass

else:
    try:
        from vllm.v1.sample.logits_processor.interface import LogitsProcessor as _V1
    except ImportError:

        class _V1:
            pass

    try:
        from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as _V2
    except ImportError:

        class _V2:
            pass


class Processor(_V1, _V2):
    """The mark as a logits processor of vLLM; which interface is meant shows in the arguments."""

    def __init__(self, vllm_config: Any, second: Any = None, is_pin_memory: bool | None = None) -> None:
        if getattr(vllm_config, "speculative_config", None):
            raise ValueError(
                "speculative decoding keeps some of a draft's tokens, and a processor is not told which key wrote them; "
                "switch one of the two off, or use the engine's own mark with two keys"
            )
        config = Config.find(vllm_config)
        if config is None:
            raise ValueError(
                f"no mark is configured: set {CONFIG_VARIABLE} to the path of a configuration file, or pass "
                'additional_config={"watermark": path}'
            )
        self.config = config
        # V1 is given a device and whether memory is pinned, V2 the table of requests.
        self._table: Any = None if is_pin_memory is not None else second
        self.requests: dict[int, Request] = {}
        self._outputs: dict[int, Sequence[int]] = {}
        self._streams = 0

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Called for every request on its arrival, in the frontend."""
        config = Config.find()
        enforced = config is not None and config.enforced
        wanted = _wanted(enforced, sampling_params)
        if config is None or not enforced or not wanted or config.scheme.is_bias:
            return
        if float(_parameter(sampling_params, "temperature", 1.0)) < GREEDY:
            raise ValueError(
                "temperature is 0: greedy decoding has one candidate and cannot carry this server's mark, which every "
                "answer must have; use a temperature above 0"
            )

    def is_argmax_invariant(self) -> bool:
        """V1. A mark of chosen tokens leaves greedy requests alone, and so is called behind the temperature; a green list
        marks them too."""
        return not self.config.scheme.is_bias

    def update_state(self, batch_update: Any) -> None:
        """V1: who is in which row. ``removed``, ``added``, ``moved``, in this order."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._remove(index)
        for index, params, _prompt, output in batch_update.added:
            self.requests[index] = self._request(params)
            # The engine appends to this very list.
            self._outputs[index] = output
        for source, target, direction in batch_update.moved:
            swap = getattr(direction, "name", str(direction)) == "SWAP"
            for table in (self.requests, self._outputs):
                _move(table, source, target, swap)

    def _remove(self, index: int) -> None:
        self.requests.pop(index, None)
        self._outputs.pop(index, None)

    def _request(self, params: Any) -> Request:
        self._streams += 1
        return Request(self.config, params, stream=self._streams if _parameter(params, "seed", None) is None else 0)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """V2: a request enters a slot, or comes back to one."""
        self.requests[req_idx] = request = self._request(sampling_params)
        return not request.off

    def apply(self, logits: Any, ctx: Any = None) -> Any:
        """Marks a batch of logits in place."""
        if ctx is None:
            rows = [(index, request, self._outputs[index]) for index, request in self.requests.items()]
        else:
            rows = self._rows(ctx)
        width = logits.shape[0]
        behind_temperature = ctx is None and self.is_argmax_invariant()
        for index, request, tokens in rows:
            if index >= width:
                continue
            host, device = _host_row(logits, index)
            if request.mark(tokens, host, after_temperature=behind_temperature) and device is not None:
                _write_back(device, host)
        return logits

    def _rows(self, ctx: Any) -> list[tuple[int, Request, Sequence[int]]]:
        """V2: row, request and output of everything in the batch."""
        slots, positions = _array(ctx.expanded_idx_mapping), _array(ctx.pos)
        if len(set(slots.tolist())) != len(slots):
            raise ValueError("several rows belong to one request: speculative decoding, under which the mark is refused")
        prompts = self._table.prompt_len.np
        ids = self._table.all_token_ids.gpu
        rows = []
        for index, (slot, position) in enumerate(zip(slots.tolist(), positions.tolist(), strict=True)):
            request = self.requests.get(slot)
            if request is not None:
                start = int(prompts[slot])
                # The row sees the token at its own position; a prompt in pieces has no output yet.
                tokens = _array(ids[slot, start : max(start, position + 1)])
                rows.append((index, request, tokens.tolist()))
        return rows


def _move(table: dict[int, Any], source: int, target: int, swap: bool) -> None:
    one, other = table.pop(source, None), table.pop(target, None)
    if one is not None:
        table[target] = one
    if swap and other is not None:
        table[source] = other


def _array(values: Any) -> NDArray[Any]:
    """A tensor of any device, or an array, as an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _host_row(logits: Any, index: int) -> tuple[NDArray[np.float32], Any]:
    """A row to change in place, and where it must be written back to, if it is a copy."""
    if isinstance(logits, np.ndarray):
        return logits[index], None
    row = logits[index]
    if row.device.type == "cpu" and str(row.dtype) == "torch.float32":
        return row.numpy(), None
    return row.float().cpu().numpy(), row


def _write_back(row: Any, host: NDArray[np.float32]) -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]

    row.copy_(torch.from_numpy(host))
