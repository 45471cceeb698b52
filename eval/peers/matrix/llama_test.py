"""The module that calls llama.cpp in the test of the C interface: ctypes, and two public master keys."""
import importlib.util
from pathlib import Path


def llama_test():
    path = Path(__file__).resolve().parents[3] / "watermark-core/bindings/c/tests/llama.py"
    spec = importlib.util.spec_from_file_location("llama", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
