"""`./build.sh bench`: measure, print a table with ratios, write the same as JSON, compare with the targets."""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import neighbours
from tests.bench.rows import BARE
from tests.bench.targets import MEGA, TARGETS, Figures
from tests.node import Node

ROUNDS = {"starts": 100, "reaps": 15, "huge": 5, "chain": 30, "parallel": 5}
QUICK = {"starts": 15, "reaps": 3, "huge": 1, "chain": 3, "parallel": 1}
GROUPS = (*ROUNDS, "once")
LIMIT_S = 3600


def machine() -> str:
    """Describe the machine in one line."""
    cpu = next((line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    system = os.uname()
    return f"{os.cpu_count()} x {cpu}, Linux {system.release} {system.machine}"


def measure(group: str, programs: dict[str, Any]) -> dict[str, Any]:
    """Run one group in a private node of its own."""
    with Node(neighbours.find(old=False)) as node, tempfile.TemporaryDirectory(prefix="bench-", dir=programs["disk"]) as disk:
        settings = json.dumps({**programs, "disk": disk})
        argv = [sys.executable, "-m", "tests.bench.rows", group, settings]
        ran = node.run(argv, cwd=str(neighbours.ROOT), timeout=LIMIT_S).check()
        found: dict[str, Any] = ran.json()
        return found


def lines(run: dict[str, Any]) -> list[str]:
    """Return the table of a run in Markdown."""
    bare = statistics.median(run["samples"][BARE]["wall_ms"])
    text = ["| row | median ms | min | p90 | user+sys | x bare | rounds |", "|---|---|---|---|---|---|---|"]
    for name, samples in run["samples"].items():
        wall, cpu = sorted(samples["wall_ms"]), statistics.median(samples["cpu_ms"])
        median, ninth = statistics.median(wall), wall[len(wall) * 9 // 10]
        text.append(f"| {name} | {median:.2f} | {wall[0]:.2f} | {ninth:.2f} | {cpu:.2f} | {median / bare:.2f} | {len(wall)} |")
    text += ["", "| single calls | user instructions, M | peak RSS, MB |", "|---|---|---|"]
    text += [f"| {name} | {count / MEGA:.1f} | {run['rss_kb'][name] / 1024:.1f} |" for name, count in run["instructions"].items()]
    return text


def compared(run: dict[str, Any], kind: str) -> tuple[list[str], int]:
    """Return the table of targets in Markdown, and how many are missed. kind: `local` or `release`."""
    medians = {name: statistics.median(samples["wall_ms"]) for name, samples in run["samples"].items()}
    figures = Figures(medians, run["instructions"], run["rss_kb"], run["bundle_bytes"])
    text, missed = [f"| target ({kind} build) | at most | measured | |", "|---|---|---|---|"], 0
    for target in TARGETS:
        most, found = getattr(target, kind), target.figure(figures)
        missed += found > most
        text.append(
            f"| {target.name} | {most:.3g} {target.unit} | {found:.3g} {target.unit} | {'missed' if found > most else 'met'} |"
        )
    return text, missed


def main() -> int:
    """Read the arguments, measure, and print."""
    parser = argparse.ArgumentParser(prog="./build.sh bench", description="Time the frozen executable beside its neighbours.")
    parser.add_argument(
        "--kind", choices=("local", "release"), default="local", help="whose targets: of which build the bundle is"
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle (default: dist/cni-reaper)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, every sample of it, here")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--quick", action="store_true", help="a few rounds: to see that it runs, not to measure")
    parser.add_argument("--from", dest="measured", type=Path, metavar="FILE", help="print the table of an earlier run's JSON")
    arguments = parser.parse_args()
    run = json.loads(arguments.measured.read_bytes()) if arguments.measured else everything(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(run))
    table, missed = compared(run, run["kind"])
    print("\n".join([f"{run['date']}, {run['machine']}; {run['version']}, {run['kind']} build", "", *lines(run), "", *table]))
    return 1 if arguments.check and missed else 0


def everything(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all groups, one after the other."""
    if arguments.bundle:
        os.environ["CNI_REAPER_BUNDLE"] = str(arguments.bundle.resolve())
    executable = neighbours.find(old=False).reaper
    version = subprocess.run([executable, "--version"], capture_output=True, check=True, text=True).stdout.strip()
    programs = {
        "python": os.environ["CNI_REAPER_BARE_PYTHON"],
        "onedir": os.environ["CNI_REAPER_ONEDIR"],
        "onefile": os.environ["CNI_REAPER_ONEFILE"],
        "cnitool": str(neighbours.find(old=False).cnitool),
        "disk": str(neighbours.ROOT / ".build"),
        "rounds": QUICK if arguments.quick else ROUNDS,
    }
    run: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "version": version,
        "kind": arguments.kind,
        "bundle_bytes": sum(file.stat().st_size for file in executable.parent.rglob("*") if file.is_file()),
        "samples": {},
    }
    for group in GROUPS:
        print(f"bench: {group}", file=sys.stderr, flush=True)
        found = measure(group, programs)
        for name in found.get("left", ()):
            if name:
                print(f"bench: a sweep of the /16 has left {name} stale ones to the next", file=sys.stderr)
        run["samples"].update(found.get("samples", {}))
        run.update({name: found[name] for name in ("instructions", "rss_kb") if name in found})
    return run


if __name__ == "__main__":
    sys.exit(main())
