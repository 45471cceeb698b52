"""A mark inside ``transformers``: ``model.generate(..., watermarking_config=WatermarkConfig(...))``.

``transformers`` puts the processor of a ``watermarking_config`` behind temperature, top-k, top-p and every other
warper, which is where a mark belongs: it chooses among what they leave. (A processor that is passed as
``logits_processor`` would come before them.) A green list adds its bonus to the scores; Gumbel and tournament
choose the token and leave one entry of the row finite. Windows never reach into the prompt.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from transformers import LogitsProcessor
from transformers.generation import BaseWatermarkingConfig

from ._rows import Generation
from ._watermark import Scheme

__all__ = ["WatermarkConfig", "WatermarkProcessor"]


class WatermarkConfig(BaseWatermarkingConfig):  # type: ignore[misc]
    """What ``generate`` takes as ``watermarking_config``.

    ``seed`` is for the coins that do not come from the key (the choice between dual keys, the draw of a tournament): with
    one, the same call writes the same text; without, they come from the system. Green lists draw nothing here.
    """

    def __init__(
        self,
        scheme: Scheme | None = None,
        *,
        seed: int | None = None,
        profile: str | dict[str, Any] | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        epoch: str | None = None,
        slot: int | None = None,
    ) -> None:
        if scheme is None:
            if profile is None or key_file is None:
                raise TypeError("pass a Scheme, or profile= and key_file=")
            scheme = Scheme(profile, key_file=key_file, epoch=epoch, slot=slot)
        elif profile is not None or key_file is not None or epoch is not None or slot is not None:
            raise TypeError("a Scheme has its profile and key already")
        self.scheme = scheme
        self.seed = seed
        self.processor: WatermarkProcessor | None = None
        """The processor of the latest call on this very object (``generate`` works on a copy)."""

    def validate(self) -> None:
        """Nothing is left to check: a scheme that exists is valid."""

    def construct_processor(self, vocab_size: int, device: Any = "cpu") -> WatermarkProcessor:
        """Called by ``generate``, once a call."""
        _refuse(sys._getframe(1).f_locals, self.scheme)
        self.processor = WatermarkProcessor(self.scheme, vocab_size, seed=self.seed)
        return self.processor

    def to_dict(self) -> dict[str, Any]:
        """For logs and saved configurations: names, and no key. Loading it back needs the key file again."""
        return {"profile": self.scheme.profile_id, "key_id": self.scheme.key_id, "seed": self.seed}

    def to_json_string(self) -> str:
        import json

        return json.dumps(self.to_dict(), indent=2) + "\n"

    def __iter__(self) -> Any:
        yield from self.to_dict().items()


def _refuse(caller: dict[str, Any], scheme: Scheme) -> None:
    """Refuses what cannot carry the mark, as early as can be.

    ``construct_processor`` is told the vocabulary alone, but ``generate`` calls it where the generation's parameters are
    at hand. Where they are not (another version), beams and assistants are still noticed by what they do to the rows.
    """
    config = caller.get("generation_config")
    if config is None:
        return
    if (getattr(config, "num_beams", None) or 1) > 1:
        raise ValueError(
            f"num_beams is {config.num_beams}: beam search picks text by its score, which removes a mark of chosen tokens "
            "and biases a green list; use num_beams=1"
        )
    if getattr(config, "prompt_lookup_num_tokens", None) or getattr(config, "assistant_early_exit", None):
        raise ValueError(
            "assisted generation asks for several candidates and keeps some, and the mark cannot tell which; leave "
            "prompt_lookup_num_tokens, assistant_early_exit and assistant_model out"
        )
    if not config.do_sample and not scheme.is_bias:
        raise ValueError(
            f"profile {scheme.profile_id} chooses among candidates by their probability, and greedy decoding has one; pass "
            "do_sample=True, or use a green list"
        )
    if "input_ids_seq_length" in caller and caller["input_ids_seq_length"] is None:
        raise ValueError(
            "continuous batching gives a processor packed rows that are not sequences; use generate() without it"
        )


class WatermarkProcessor(LogitsProcessor):  # type: ignore[misc]
    """The mark of one call of ``generate``."""

    supports_continuous_batching = False

    def __init__(self, scheme: Scheme, vocab_size: int, *, seed: int | None = None) -> None:
        self.scheme = scheme
        self.vocab_size = vocab_size
        self._generation = Generation(scheme, seed=seed)

    @property
    def sessions(self) -> list[Any]:
        """The session of every row: its tokens, counts and record."""
        return [row.session for row in self._generation.rows]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        # A copy: `generate` may return the row that came in as `logits`.
        marked = scores.detach().to(device="cpu", dtype=torch.float32, copy=True)
        self._generation.step(input_ids.detach().cpu().numpy(), marked.numpy())
        return marked.to(device=scores.device, dtype=scores.dtype)  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"WatermarkProcessor({self.scheme!r})"
