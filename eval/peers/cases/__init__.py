"""How each peer is called. Nothing of a peer is copied; what is not on the registry is said so."""
from cases import green, reference, several  # noqa: F401  each registers its cases
from cases.registry import CASES, UNAVAILABLE, prepare_imports  # noqa: F401
