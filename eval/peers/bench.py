"""One run: our command, the Rust crate and every Python case in turn, round after round."""
import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import cases
import report
from install import sections
from measure import OPERATIONS, Reader, fitting_length, time_reader, time_step

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def plain(error, scratch):
    """An error in one line, without paths of this machine."""
    words = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return re.sub(r"/[\w./+-]+/", "", words.replace(str(scratch), "")).split("\n")[0][:160]


def printed_object(words, seconds):
    """The JSON object that a command prints, whatever stands before it."""
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=seconds)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"exit status {done.returncode}: {last[-1] if last else 'no message'}")
    found = json.loads(done.stdout[done.stdout.index("{"):])
    if not isinstance(found, dict):
        raise ValueError("no JSON object was printed")
    return found


def quartiles(values):
    """Median and quartiles; of fewer than three values, the extremes."""
    if len(values) < 3:
        return {"median": statistics.median(values), "q1": min(values), "q3": max(values)}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high}


def shown(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine():
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    field = lambda name: (re.search(rf"^{name}\s*:\s*(.*)$", cpu, re.M) or [None, None])[1]
    flags = set((field("flags") or "").split())
    return {
        "cpu": field("model name") or platform.machine(),
        "family": field("cpu family"), "model": field("model"), "cores": os.cpu_count(),
        "vector": [flag for flag in ("avx2", "avx512f", "sha_ni") if flag in flags],
        "memoryGiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(), "rustc": shown("rustc", "--version"),
        "torchKernels": torch.backends.cpu.get_cpu_capability(),
    }


def versions():
    wanted = sections()
    pinned = dict(one.split("==") for name in ("base", "alone", "files") for one in wanted[name])
    found = {"llm-watermarking": "0.1.0"}
    for name, version in pinned.items():
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = version
    return dict(sorted(found.items()))


class Row:
    """One case: its values round by round, or why there is none."""

    def __init__(self, operation, peer, package, setting, gives, make):
        self.operation, self.peer, self.package = operation, peer, package
        self.setting, self.gives, self.make = setting, gives, make
        self.values, self.rounds, self.problem, self.made, self.tokens = [], [], None, None, None

    def prepare(self, failed, scratch, seconds):
        """Builds the case and runs it once; its output is checked."""
        if self.package in failed:
            self.problem = failed[self.package]
        elif self.make != "crate":
            try:
                self.made = self.make()
                if isinstance(self.made, Reader):
                    self.tokens = fitting_length(self.made, 3 * seconds)
                else:
                    self.made.check()
            except Exception as error:  # whatever a peer does, the others are timed
                self.problem = plain(error, scratch)

    def measure(self, seconds, number, scratch, crate):
        if self.problem:
            return
        try:
            if self.make == "crate":
                value = crate[self.operation]
            elif isinstance(self.made, Reader):
                value = time_reader(self.made, self.tokens, number)
            else:
                value = time_step(self.made, seconds)
            self.values.append(value)
            self.rounds.append(number)
        except Exception as error:
            self.problem = plain(error, scratch)


def crate_round(scratch, seconds, failed):
    if "llm-watermarking" in failed:
        return {}
    try:
        return printed_object([str(scratch / "crate" / "target" / "release" / "crate-bench"), str(seconds)], 600)
    except Exception as error:
        failed["llm-watermarking"] = plain(error, scratch)
        return {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--failed", type=json.loads, default={})
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    scratch, failed, seconds = arguments.scratch, dict(arguments.failed), 0.1 if arguments.quick else 0.5
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch._dynamo.config.automatic_dynamic_shapes = False  # one compiled form a shape: the faster one
    torch._dynamo.config.recompile_limit = 64
    cases.prepare_imports(scratch)
    only = re.compile(arguments.only)
    rows = [Row(*case) for case in cases.CASES if only.search(case[0]) or only.search(case[1])]
    crate_wanted = any(row.make == "crate" for row in rows)
    for row in rows:
        print(f"preparing {row.operation}: {row.peer}, {row.setting}", file=sys.stderr)
        row.prepare(failed, scratch, seconds)
        if row.problem:
            print(f"  not run: {row.problem}", file=sys.stderr)
    ours, ours_problem = [], None
    load, started = [os.getloadavg()[0]], time.time()
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        if ours_problem is None:
            try:
                ours.append(printed_object(shlex.split(arguments.ours), 1800))
            except Exception as error:
                ours_problem = plain(error, scratch)
                print(f"our command was not run: {ours_problem}", file=sys.stderr)
        crate = crate_round(scratch, seconds, failed) if crate_wanted else {}
        first = number * len(rows) // arguments.rounds  # another start each round: drift falls on all alike
        for row in rows[first:] + rows[:first]:
            if row.make == "crate" and row.package in failed:
                row.problem = failed[row.package]
            row.measure(seconds, number, scratch, crate)
        load.append(os.getloadavg()[0])
    result = {
        "commit": shown("git", "rev-parse", "HEAD"), "dirty": bool(shown("git", "status", "--porcelain", "--untracked-files=no")),
        "machine": machine(), "versions": versions(), "quick": arguments.quick, "rounds": arguments.rounds,
        "secondsAMeasurement": seconds, "wallSeconds": round(time.time() - started),
        "loadAverage": [round(min(load), 1), round(max(load), 1)],
        "ours": collect(ours), "oursProblem": ours_problem,
        "operations": [operation.__dict__ for operation in OPERATIONS],
        "rows": [entry(row, ours) for row in rows],
        "unavailable": [dict(zip(("peer", "what", "reason"), row)) for row in cases.UNAVAILABLE],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "peers.md").write_text(report.markdown(result))
    report.figure(result, arguments.out / "peers.svg")
    print(f"{sum(bool(row.values) for row in rows)} of {len(rows)} cases timed", file=sys.stderr)


def collect(ours):
    """Median and quartiles of every number that our command printed, and its words; its own quartiles are left out."""
    found = {}
    for key in ours[0] if ours else ():
        if isinstance(ours[0][key], dict):
            continue
        values = [round_[key] for round_ in ours if key in round_]
        number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        found[key] = quartiles(values) if number else values[-1]
    return found


def entry(row, ours):
    """A row of the result. The ratio is that of the same round, then the median over rounds."""
    operation = next(operation for operation in OPERATIONS if operation.id == row.operation)
    found = {"operation": row.operation, "peer": row.peer, "setting": row.setting, "gives": row.gives}
    if row.problem or not row.values:
        return found | {"notRun": row.problem or "no value"}
    found |= quartiles(row.values) | {"unit": operation.unit, "rounds": len(row.values)}
    if isinstance(row.made, Reader):
        found["tokens"] = row.tokens
    pairs = [(value, ours[number][operation.ours]) for number, value in zip(row.rounds, row.values)
             if number < len(ours) and isinstance(ours[number].get(operation.ours), (int, float))]
    if pairs:
        found["timesSlower"] = quartiles([v / o if operation.unit == "us" else o / v for v, o in pairs])
    return found


if __name__ == "__main__":
    main()
