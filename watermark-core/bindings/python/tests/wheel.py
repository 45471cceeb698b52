"""What a wheel must be: the stable ABI, no libpython, the package with its types, and no test or secret in it."""

import re
import sys
import zipfile


def main(path: str) -> None:
    name = path.rsplit("/", 1)[-1]
    assert re.search(r"-cp310-abi3-", name), f"{name} is not tagged for the stable ABI of Python 3.10"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        modules = ["__init__.py", "_rows.py", "hf.py", "vllm.py", "engines.py", "py.typed", "_watermark.pyi"]
        missing = [module for module in modules if f"watermark/{module}" not in names]
        assert not missing, f"{name} lacks {missing}"
        libraries = [entry for entry in names if entry.endswith((".so", ".pyd", ".dylib"))]
        assert len(libraries) == 1 and "abi3" in libraries[0] or libraries[0].endswith(".pyd"), libraries
        binary = wheel.read(libraries[0])
        assert not re.search(rb"libpython3[.0-9]*\.(so|dylib)", binary), f"{libraries[0]} is linked to libpython"
        other = [entry for entry in names if not entry.startswith("watermark/") and ".dist-info/" not in entry]
        assert not other, f"{name} holds {other}"
        size = sum(entry.file_size for entry in wheel.infolist())
    print(f"{name}: {len(names)} files, {size / 1e6:.1f} MB unpacked")


if __name__ == "__main__":
    main(sys.argv[1])
