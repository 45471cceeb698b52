"""Keyed sampling marks for language models, and the exact tests that read them back.

- ``Scheme``: a profile under a key; masks, bias and selection for rows of a batch.
- ``Session``: one sequence being written.
- ``Detector``: the tokens of a suspect, and what they show.
- ``distill``: was a model trained on text under this key?
- ``watermark.hf``, ``watermark.vllm``: inside these engines. ``watermark.engines``: marks that engines make themselves.

Only numpy is needed; torch, transformers and vLLM are imported by the modules that serve them.
"""

from ._watermark import (
    Coins,
    Decision,
    Detection,
    Detector,
    Pool,
    Scheme,
    Session,
    __version__,
    built_in_profiles,
    distill,
    new_master_key,
    sample_rows,
)

__all__ = [
    "Coins",
    "Decision",
    "Detection",
    "Detector",
    "Pool",
    "Scheme",
    "Session",
    "__version__",
    "built_in_profiles",
    "distill",
    "new_master_key",
    "sample_rows",
]
