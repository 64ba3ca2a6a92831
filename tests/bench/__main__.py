"""`./build.sh bench`: measure, print tables with ratios, write the same as JSON, compare with the targets."""

import argparse
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.programs import BESIDE, OURS, Programs, bare_python, size_bytes
from tests.bench.rows import HEALTHY, REFERENCE, reference_of
from tests.bench.targets import MEGA, TARGETS, paired
from tests.support.node import Node
from tests.support.programs import ROOT, find_programs

ROUNDS = {"starts": 100, "reaps": 15, "huge": 3, "chain": 40, "parallel": 5, "stays": 20, "at-once": 20, "once": 1}
QUICK = {"starts": 10, "reaps": 3, "huge": 1, "chain": 3, "parallel": 1, "stays": 2, "at-once": 1, "once": 1}
LIMIT_S = 3600


def machine() -> str:
    """Describe the machine in one line."""
    cpu = next((line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    system = os.uname()
    return f"{os.cpu_count()} x {cpu}, Linux {system.release} {system.machine}"


def measure(group: str, programs: Programs, rounds: int, seed: int) -> dict[str, Any]:
    """Run one group in a private node of its own."""
    build = ROOT / ".build"
    build.mkdir(exist_ok=True)
    with Node(find_programs(old=False)) as node, tempfile.TemporaryDirectory(prefix="bench-", dir=build) as disk:
        order = {"group": group, "installed": asdict(programs), "rounds": rounds, "seed": seed, "disk": disk}
        argv = [sys.executable, "-m", "tests.bench.rows", json.dumps(order)]
        ran = node.run(argv, cwd=str(ROOT), timeout=LIMIT_S).check()
        found: dict[str, Any] = ran.json()
        return found


def lines(run: dict[str, Any]) -> list[str]:
    """Return the tables of a run in Markdown."""
    text = []
    for group, found in run["groups"].items():
        reference = "the same on a healthy node" if REFERENCE[group] == HEALTHY else f"“{REFERENCE[group]}”"
        text += [
            f"{group}, {found['scheduling']}; x: times as much as {reference}, the median of the rounds",
            "",
            "| row | median ms | min | p90 | user+sys | x | user+sys x | page faults | rounds |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, samples in found["samples"].items():
            wall = sorted(samples["wall_ms"])
            median, cpu, faults = (statistics.median(samples[what]) for what in ("wall_ms", "cpu_ms", "faults"))
            compared_with = found["samples"][reference_of(group, name)]
            times, cpu_times = (paired(samples, compared_with, what) for what in ("wall_ms", "cpu_ms"))
            spread = f"{median:.2f} | {wall[0]:.2f} | {wall[len(wall) * 9 // 10]:.2f} | {cpu:.2f}"
            text.append(f"| {name} | {spread} | {times:.3f} | {cpu_times:.3f} | {faults:.0f} | {len(wall)} |")
        text.append("")
    if "once" not in run:
        return text
    text += ["| one call | user instructions, M | system calls | peak RSS, MB |", "|---|---|---|---|"]
    for name, found in run["once"].items():
        figures = f"{found['instructions'] / MEGA:.2f} | {found['system_calls']:.0f} | {found['rss_kb'] / 1024:.1f}"
        text.append(f"| {name} | {figures} |")
    return text


def compared(run: dict[str, Any]) -> tuple[list[str], int]:
    """Return the table of targets in Markdown, and how many are missed."""
    beside = [BESIDE] if BESIDE in run["versions"] else []
    text = [f"| target | at most | measured | |{' beside |' * len(beside)}", f"|---|---|---|---|{'---|' * len(beside)}"]
    missed = 0
    for target in TARGETS:
        found, *others = (target.measured(run, build) for build in (OURS, *beside))
        if found is None:
            continue
        missed += found > target.most
        cells = [target.name, target.text(target.most), target.text(found), "missed" if found > target.most else "met"]
        text.append(f"| {' | '.join([*cells, *map(target.text, others)])} |")
    return text, missed


def main() -> int:
    """Read the arguments, measure, and print."""
    parser = argparse.ArgumentParser(prog="./build.sh bench", description="Time the frozen executable beside its neighbours.")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="PATH",
        help="another build of cni-reaper, measured in the same rounds: an executable, or the directory of a bundle (0.1.0)",
    )
    parser.add_argument("--seed", type=int, help="of the order of the rows in each round (default: a new one, which is printed)")
    parser.add_argument("--only", choices=ROUNDS, nargs="+", default=tuple(ROUNDS), metavar="GROUP", help=" ".join(ROUNDS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, every sample of it, here")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--quick", action="store_true", help="a few rounds: to see that it runs, not to measure")
    parser.add_argument("--from", dest="measured", type=Path, metavar="FILE", help="print the tables of an earlier run's JSON")
    arguments = parser.parse_args()
    run = json.loads(arguments.measured.read_bytes()) if arguments.measured else everything(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(run))
    table, missed = compared(run)
    versions = f"{run['versions'][OURS]}" + (f", beside it {run['versions'][BESIDE]}" if BESIDE in run["versions"] else "")
    head = f"{run['date']}, {run['machine']}; {versions}; bare Python {run['python']}; order of the rows by seed {run['seed']}"
    print("\n".join([head, "", *lines(run), "", *table]))
    return 1 if arguments.check and missed else 0


def everything(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all groups, one after the other."""
    found = find_programs(old=False)
    beside = ""
    if arguments.beside:
        beside = str((arguments.beside / "cni-reaper" if arguments.beside.is_dir() else arguments.beside).resolve())
    python, libpython = bare_python()
    programs = Programs(
        reaper=str(found.reaper.resolve()),
        beside=beside,
        python=python,
        libpython=libpython,
        nothing=os.environ["CNI_REAPER_NOTHING"],
        cnitool=str(found.cnitool),
    )
    builds = dict(zip(programs.builds(), (programs.reaper, programs.beside), strict=False))
    run: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "python": platform.python_version(),
        "seed": random.randrange(1 << 32) if arguments.seed is None else arguments.seed,
        "versions": {name: version(executable) for name, executable in builds.items()},
        "size_bytes": {name: size_bytes(executable) for name, executable in builds.items()},
        "groups": {},
    }
    for group in arguments.only:
        print(f"bench: {group}", file=sys.stderr, flush=True)
        measured = measure(group, programs, (QUICK if arguments.quick else ROUNDS)[group], run["seed"])
        for left in filter(None, measured.pop("left", ())):
            print(f"bench: a sweep of the /16 has left {left} stale ones to the next", file=sys.stderr)
        if group in REFERENCE:
            run["groups"][group] = measured
        else:
            run |= measured
    return run


def version(executable: str) -> str:
    """Return what a build says it is."""
    return subprocess.run([executable, "--version"], capture_output=True, check=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
