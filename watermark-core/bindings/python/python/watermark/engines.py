"""Marks that engines make themselves: their keys and configurations. Both are secret, and lie in files of mode 600.

An engine's mark runs where its sampler runs, on the GPU. ``write_config`` gives the engine a key, and a ``Scheme`` with the
same profile and the same source of the key reads what it writes::

    write_config("vllm-gumbel", "vllm.json", key_file="provider.key", epoch="2026q4")
    LLM(model, watermark_config=read_config("vllm.json"))            # vLLM 0.30 and newer, on CUDA
    # sglang: --watermark-config sglang.json

    detector = Detector(Scheme("vllm-gumbel", key_file="provider.key", epoch="2026q4"))

With a key of ours the engine's integers are derived from the slot: commitment, custody and decoys hold for them too. A
key that an engine has already stands in a file ``{"schema": "watermark.engine-key/1", "function": "vllm", "key": "123"}``.

The functions of engines are weaker than ours; a report on one says how, and no p-value goes below what its key can
carry.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from ._watermark import compatible_profiles, write_engine_config, write_engine_key

__all__ = ["compatible_profiles", "read_config", "write_config", "write_key"]

write_config = write_engine_config
write_key = write_engine_key


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A configuration as an engine's Python interface takes it. It holds the key: do not print it.

    Refuses a file that others can read.
    """
    with Path(path).open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise PermissionError(f"{path} can be read by others (mode {mode:03o}), and holds a key; make a new key")
        try:
            config = json.load(file)
        except json.JSONDecodeError:
            # What is wrong is not shown: it may be the key.
            raise ValueError(f"{path} is not a configuration that write_config wrote") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a configuration that write_config wrote")
    return config
