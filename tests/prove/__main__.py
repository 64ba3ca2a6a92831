"""`python -m tests.prove`: walk the model, then see that it catches every mutation. Exit 1 on any failure."""

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
import time

from tests.prove import model, mutations
from tests.prove.world import Statistics


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def walk(wanted: int, number: int, workers: int) -> bool:
    """Walk the model, one process for each worker with a seed of its own, and print the table of all; tell whether it held."""
    begun = time.monotonic()
    seeds = [number + turn * 1_000_000 for turn in range(workers)]
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        walked = list(pool.map(model.walk_alone, [wanted // workers + 1] * workers, seeds))
    took = time.monotonic() - begun
    done = Statistics()
    for _, statistics in walked:
        done.add(statistics)
    found = [text for text, _ in walked if text]
    taken = sum(done.steps.values())
    say(f"model: {taken} steps from the seeds {', '.join(map(str, seeds))} in {took:.0f} s, {taken / took:.0f} a second")
    for title, counter in (
        ("steps", done.steps),
        ("rows of judge.py that decided", done.rows),
        ("freed, by reason", done.reaped),
        ("another process in between", done.between),
    ):
        say(f"  {title}:")
        for name, times in sorted(counter.items()):
            say(f"    {times:8} {name}")
    say(f"  violations: {len(found)}")
    for text in found:
        say(f"    {text}")
    return not found


def mutate(number: int, wanted: str, workers: int) -> bool:
    """Run all mutations whose name holds `wanted`, and print what caught each; tell whether all were caught."""
    chosen = [one for one in mutations.MUTATIONS if wanted in one.name]
    if not chosen:
        say(f"no mutation has {wanted!r} in its name")
        return False
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for caught in pool.map(lambda one: mutations.run(one, number), chosen):
            missed += not caught.by
            say(f"  {'caught by ' + caught.by if caught.by else 'NOT CAUGHT':24} {caught.mutation.name}: {caught.how}")
    say(f"mutations: {len(chosen) - missed} of {len(chosen)} caught")
    return not missed


def main() -> int:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(
        prog="./build.sh prove", description="Walk the model of nodes, and run the mutations it has to catch."
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where chance begins (default: the time)")
    parser.add_argument(
        "--mutations", default="", metavar="TEXT", help="only mutations whose name holds this text; `none` for none"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at one time (default: %(default)s)")
    arguments = parser.parse_args()
    held = walk(arguments.steps, arguments.seed, arguments.workers) if arguments.steps else True
    caught = mutate(arguments.seed, arguments.mutations, arguments.workers) if arguments.mutations != "none" else True
    return 0 if held and caught else 1


if __name__ == "__main__":
    sys.exit(main())
