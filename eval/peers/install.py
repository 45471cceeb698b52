"""Installs pinned packages into a scratch directory: what `run` and `engines` share."""
import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def sections():
    """requirements.txt as {section: [requirement]}."""
    found, section = {}, None
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if heading := re.fullmatch(r"# \[(\w+)\]", line.strip()):
            section = found.setdefault(heading[1], [])
        elif line.strip() and not line.startswith("#"):
            section.append(line.strip())
    return found


def reason(done):
    """The last line of a failed command that says something."""
    lines = [line.strip() for line in (done.stderr or done.stdout or "").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return ((errors or lines or [f"exit status {done.returncode}"])[-1])[:160]


def command(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)


class Recipe:
    """What was installed, so that it is done once: a file of the recipe's digest and of what failed."""

    def __init__(self, scratch, name, *files):
        self.marker = scratch / name
        text = "".join((HERE / file).read_text() for file in ("requirements.txt", "install.py", *files))
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def known(self):
        """{package: reason} for what failed then, or None."""
        if self.marker.exists() and (known := json.loads(self.marker.read_text()))["recipe"] == self.digest:
            return known["failed"]
        return None

    def done(self, failed):
        self.marker.write_text(json.dumps({"recipe": self.digest, "failed": failed}))


def room(scratch):
    if shutil.disk_usage(scratch).free < 15e9:
        sys.exit("less than 15 GB of disk are free: name another directory with --scratch")


def environment(folder, *requirements, above=None):
    """A virtual environment with the requirements, and its Python; a failure ends the program.

    `above` is the Python of another environment whose packages are seen as well.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if above:
        site = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = Path(command(python, "-c", site).stdout.strip())
        (own / "above.pth").write_text(command(above, "-c", site).stdout)
    done = command(python, "-m", "pip", "install", "--quiet", *requirements)
    if done.returncode:
        sys.exit(f"{requirements[0]} and others could not be installed: {reason(done)}")
    return python


def alone(python, requirements):
    """Installs packages without their dependencies; {package: reason} for what failed."""
    failed = {}
    for requirement in requirements:
        print(f"installing {requirement}", file=sys.stderr)
        done = command(python, "-m", "pip", "install", "--quiet", "--no-deps", requirement)
        if done.returncode:
            failed[requirement.split("==")[0]] = f"not installed: {reason(done)}"
    return failed


def unpack(python, requirement, scratch):
    """Unpacks the Python files of one wheel under scratch/files/NAME; the reason if that fails."""
    name = requirement.split("==")[0]
    wheels, files = scratch / "wheels", scratch / "files" / name
    marker = files / "unpacked"
    if marker.exists() and marker.read_text() == requirement:
        return None
    done = command(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, requirement)
    if done.returncode:
        return reason(done)
    for wheel in wheels.glob(f"{name}-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(files, [member for member in archive.namelist() if "watermarking" in member])
        wheel.unlink()
    marker.write_text(requirement)
    return None


def unpack_all(python, requirements, scratch):
    """{package: reason} for what could not be fetched."""
    failed = {}
    for requirement in requirements:
        print(f"unpacking {requirement}", file=sys.stderr)
        if problem := unpack(python, requirement, scratch):
            failed[requirement.split("==")[0]] = f"not fetched: {problem}"
    return failed
