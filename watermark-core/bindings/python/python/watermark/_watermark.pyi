"""The compiled part of the package."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, NoReturn, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

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
    "compatible_profiles",
    "distill",
    "new_master_key",
    "sample_rows",
    "write_engine_config",
    "write_engine_key",
]

__version__: str

_Ids: TypeAlias = NDArray[np.integer[Any]] | Sequence[int]
"""Token ids of one sequence: an integer array of one dimension, or a list."""
_IdRows: TypeAlias = NDArray[np.integer[Any]] | Sequence[Sequence[int]]
"""Rows of token ids. ``uint32`` arrays are not copied."""
_Logits: TypeAlias = NDArray[np.float32]
_Key: TypeAlias = bytes | bytearray | memoryview
_Profile: TypeAlias = str | dict[str, Any] | PathLike[str]
"""A built-in name, JSON text, its dictionary, or the path of a JSON file."""
_Reason: TypeAlias = Literal[
    "disabled",
    "greedy",
    "partial_context",
    "repeated_context",
    "low_entropy",
    "budget",
    "draft",
    "no_candidate",
    "replaced",
]
_Lane: TypeAlias = Literal["green", "gumbel", "tournament", "auxiliary"]
_VerdictName: TypeAlias = Literal["rejected", "not-rejected", "insufficient-evidence"]

def built_in_profiles() -> list[str]:
    """The names of the built-in profiles, the default first."""

def compatible_profiles() -> list[str]:
    """The names of the profiles of other engines' marks."""

def write_engine_config(
    profile: _Profile,
    path: str | PathLike[str],
    *,
    key_file: str | PathLike[str] | None = None,
    key_line: _Key | None = None,
    slot_key: _Key | None = None,
    epoch: str | None = None,
    slot: int | None = None,
) -> str:
    """Writes an engine's native configuration to a new file of mode 600; returns the public name of the key in it. A key
    of ours stands for the engine's through its slot."""

def write_engine_key(
    profile: _Profile,
    path: str | PathLike[str],
    *,
    key_file: str | PathLike[str] | None = None,
    key_line: _Key | None = None,
    slot_key: _Key | None = None,
    epoch: str | None = None,
    slot: int | None = None,
) -> str:
    """Writes an engine's key alone to a new file of mode 600, for a reader that is to have no slot key; returns its public
    name."""

def new_master_key(path: str | PathLike[str]) -> str:
    """Draws a master key and writes it to a new file of mode 600; returns the key's public name."""

@final
class Pool:
    """Threads of its own for batches; no other pool of the process is used."""

    def __new__(cls, threads: int) -> Pool: ...

@final
class Coins:
    """A generator for calls that draw outside a session: ChaCha8 from a seed and a stream, or from the system."""

    def __new__(cls, seed: int | None = None, stream: int = 0) -> Coins: ...

@final
class Scheme:
    """A mark: profile and key. It never changes, holds the key, and shows only its public id.

    The key comes from a file of mode 600, from the line (or object) of such a file as bytes, or from the 32 bytes of a slot
    key. A
    master key is narrowed to one slot of one epoch (``"e1"`` and 0 if left out), and not kept.
    """

    def __new__(
        cls,
        profile: _Profile,
        *,
        key_file: str | PathLike[str] | None = None,
        key_line: _Key | None = None,
        slot_key: _Key | None = None,
        epoch: str | None = None,
        slot: int | None = None,
        account: int = 0,
    ) -> Scheme: ...
    @property
    def profile(self) -> dict[str, Any]:
        """The profile, as its JSON form has it."""
    @property
    def profile_id(self) -> str: ...
    @property
    def key_id(self) -> str:
        """The public name of the slot's key."""
    @property
    def epoch(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def account(self) -> int:
        """The account of a leak slot; 0 in a provider slot."""
    @property
    def context_width(self) -> int:
        """h, the preceding tokens that seed a row."""
    @property
    def is_bias(self) -> bool:
        """Whether the scheme changes logits (a green list); the others choose a token."""
    @property
    def delta(self) -> float | None:
        """The bonus of a green list, in nats."""
    @property
    def preserves_distribution(self) -> bool:
        """Whether one token under a random key keeps the candidates' distribution."""
    def fill_masks(
        self, windows: _IdRows, vocab_size: int, *, out: NDArray[np.uint32] | None = None
    ) -> NDArray[np.uint32]:
        """The green tokens of every window as bits, ``[rows, ceil(vocab_size / 32)]``: token ``32 i + j`` is bit ``j`` of
        word ``i``. Bits beyond the vocabulary are 0. With ``out`` it is filled and returned."""
    def bias_(self, logits: _Logits, windows: _IdRows, *, pool: Pool | None = None) -> None:
        """Adds the green list's bonus to every row of ``logits`` ``[rows, vocabulary]``, in place."""
    def select(
        self, probabilities: _Logits, windows: _IdRows, coins: Coins, *, tokens: _IdRows | None = None
    ) -> NDArray[np.uint32]:
        """The index of the chosen candidate of every row. ``probabilities`` ``[rows, candidates]`` need not sum to 1;
        without ``tokens`` candidate i is token i."""
    def scores(self, windows: _IdRows, tokens: _Ids) -> NDArray[np.uint64]:
        """The score of one token in each window, in units of the null law's lattice."""
    def row_seeds(self, windows: _IdRows) -> NDArray[np.uint8]:
        """The seeds of every window's row, ``[rows, seeds, 32]``: for other implementations of the keyed function. A seed
        gives one window's coins away, and no other's."""
    def words(self, windows: _IdRows, count: int, *, lane: _Lane) -> NDArray[np.uint32]:
        """The first words of every window's row, ``[rows, seeds, count]``: for other implementations."""
    def __copy__(self) -> Scheme: ...
    def __deepcopy__(self, _memo: Any) -> Scheme: ...
    def __reduce__(self) -> NoReturn: ...

@final
class Decision:
    """What a session says about the next token."""

    @property
    def marked(self) -> bool:
        """Whether the position is marked: by a chosen token, or by a bonus on green logits."""
    @property
    def index(self) -> int | None:
        """The chosen candidate's index."""
    @property
    def token(self) -> int | None:
        """The chosen token."""
    @property
    def reason(self) -> _Reason | None:
        """Why the position is left to ordinary sampling."""

@final
class Session:
    """One sequence being written: its tokens since the prompt, the windows met, and its coins.

    ``decide`` and ``mark_`` change nothing in it and may be asked any number of times; ``accept`` appends.
    """

    def __new__(cls, scheme: Scheme, *, seed: int | None = None, stream: int = 0) -> Session: ...
    @property
    def scheme(self) -> Scheme: ...
    @property
    def tokens(self) -> NDArray[np.uint32]:
        """The tokens accepted so far (a copy)."""
    @property
    def window(self) -> tuple[int, ...] | None:
        """The window of the next token; None while the segment is too short."""
    enabled: bool
    """Whether positions are marked from here on."""
    budget: int | None
    """At most so many marked tokens."""
    def decide(self, probabilities: _Logits, tokens: _Ids | None = None, *, temperature: float = 1.0) -> Decision:
        """The next token's candidate, or the reason to sample ordinarily. The candidates are what temperature and
        truncation leave; ``temperature`` only says whether decoding is greedy."""
    def mark_(
        self, logits: _Logits, *, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0
    ) -> Decision:
        """Writes the decision into one row of logits, in place: a green list's bonus, or minus infinity everywhere but at
        the chosen token. A position that is not marked is left as it is.

        The parameters are those that the engine has still to apply: a mark that chooses a token applies them first, and a
        green list multiplies its bonus by the temperature (0, greedy decoding, takes the bonus as well)."""
    def sample(self, logits: _Logits, *, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> int:
        """A whole step: logits to token, marked or sampled ordinarily, and accepted."""
    def accept(self, token: int, outcome: Decision | _Reason | Literal["marked"]) -> None:
        """Appends the token that the engine took, with how it came about."""
    def rollback(self, tokens: int) -> None:
        """Takes back the last tokens accepted. Coins are not taken back."""
    def reset(self) -> None:
        """Back to an empty sequence; switch and budget stay, and coins go on."""
    def begin_segment(self) -> None:
        """Starts a segment (after hidden reasoning, a tool call): no window crosses this point."""
    def reserve(self, tokens: int) -> None:
        """Makes room for so many more tokens."""
    def clone(self, *, stream: int | None = None) -> Session:
        """An independent continuation; with ``stream``, under coins of its own."""
    @property
    def counts(self) -> dict[str, int]:
        """How many positions were marked, and how many skipped for each reason."""
    def record(self) -> dict[str, Any]:
        """What was written, in the form that a ledger reads: ids, slot and skips, no text and no key."""
    def __len__(self) -> int: ...
    def __copy__(self) -> Session: ...
    def __deepcopy__(self, _memo: Any) -> Session: ...
    def __reduce__(self) -> NoReturn: ...

def sample_rows(
    sessions: Sequence[Session],
    logits: _Logits,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    pool: Pool | None = None,
) -> NDArray[np.uint32]:
    """One step of every session: row i of ``logits`` to the next token of ``sessions[i]``, accepted."""

@final
class Detector:
    """Reads text: every (window, token) cell counts once, over everything that was pushed."""

    def __new__(cls, scheme: Scheme, *, alpha: float = 1e-5, min_cells: int = 50) -> Detector: ...
    def exclude(self, prompt: _Ids) -> None:
        """Leaves out every window of a prompt, in all answers. Comes before the first answer."""
    def push(self, tokens: _Ids) -> None:
        """Takes in the tokens of one answer, without its prompt."""
    def result(self) -> Detection:
        """The test of everything so far. Its p holds for one look that was planned; who looks often and stops when it
        pleases reads ``log10_e``."""

@final
class Detection:
    """Numbers of one test, and a policy applied to them.

    H0: prompts and text are independent of the key. p is the probability of so large a sum of scores under H0, exact or
    an upper bound.
    """

    @property
    def ln_p(self) -> float:
        """Natural logarithm of p; finite, at most 0."""
    @property
    def log10_p(self) -> float: ...
    @property
    def p(self) -> str:
        """p as text, such as ``2.9e-288``; a float would end at 1e-308."""
    @property
    def headline(self) -> str:
        """p for a headline, which stops at ``p < 1e-9``."""
    @property
    def lower_log10_p(self) -> float:
        """log10 of the lower tail: a small value means a mark that is being avoided."""
    @property
    def log10_e(self) -> float:
        """log10 of an e-value: under H0 it reaches -log10(alpha) with probability at most alpha, however often one
        looks."""
    @property
    def n_scored(self) -> int:
        """Distinct cells that were scored."""
    @property
    def mean(self) -> float:
        """Mean score of a cell."""
    @property
    def null_mean(self) -> float:
        """The mean that chance gives."""
    @property
    def z(self) -> float:
        """Standard score: a figure, not the evidence."""
    @property
    def verdict(self) -> _VerdictName:
        """On independence of text and key."""
    @property
    def explanation(self) -> str:
        """What the verdict says, and what it does not say."""
    @property
    def counts(self) -> dict[str, int]:
        """Where the tokens went."""
    @property
    def cells_digest(self) -> str:
        """SHA-256 of the scored cells, in hexadecimal."""
    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""

def distill(
    profile: _Profile,
    suspect: Sequence[_Ids],
    *,
    key_file: str | PathLike[str] | None = None,
    key_line: _Key | None = None,
    epoch: str | None = None,
    slot: int | None = None,
    prompts: Sequence[_Ids] | None = None,
    sources: Sequence[int] | None = None,
    control: Sequence[_Ids] | None = None,
    corpus: Sequence[_Ids] | None = None,
    decoys: int = 4063,
    tests: Sequence[str] | None = None,
    two_sided: bool = False,
    alpha: float = 1e-5,
    min_cells: int = 50,
    threads: int = 1,
) -> dict[str, Any]:
    """Was the suspect trained on text under this key? Its answers, tested among decoy keys.

    ``suspect`` and ``control`` are lists of answers, ``prompts`` what was asked (their windows do not count, in either),
    ``sources`` the number of each answer's prompt, where several answers share one. Decoys need the master key.
    The result is that of ``watermark distill --format json``: ``verdict``, ``explanation``, ``policy`` and ``report``.
    """
