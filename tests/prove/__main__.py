"""`python -m tests.prove`: the model, the small world, the real kernel, and then every mutation. Exit 1 on any failure."""

import argparse
import concurrent.futures
import multiprocessing
import os
import sys
import time

from tests.prove import kernel_walk, model, mutations, small_world
from tests.prove.node_state import Statistics


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
        ("rows of decision.py that decided", done.rows),
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


def explore(minutes: float) -> bool:
    """Explore the small world for so many minutes of one core's time, and print what that came to; tell whether it held."""
    found = small_world.explore(60 * minutes)
    say(small_world.told(found))
    return not any(one.broken for one in found)


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


def mutate_small(wanted: str, minutes: float, workers: int) -> bool:
    """Explore the small world with each of these mutations; tell whether those are caught that it has to catch."""
    chosen = [one for one in mutations.MUTATIONS if wanted in one.name]
    missed, caught_here = 0, 0
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for caught in pool.map(lambda one: mutations.run_small(one, minutes), chosen):
            must = any(name in caught.mutation.name for name in mutations.IN_THE_SMALL_WORLD)
            caught_here += bool(caught.by)
            missed += must and not caught.by
            say(f"  {caught.by or ('NOT CAUGHT' if must else 'not reached'):24} {caught.mutation.name}: {caught.how}")
    say(f"mutations in the small world, {minutes} minutes each: {caught_here} of {len(chosen)} caught, {missed} missed")
    return not missed


def main() -> int:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(
        prog="./build.sh prove",
        description="Walk the model of nodes and the real kernel, explore the small world, run mutations.",
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where chance begins (default: the time)")
    parser.add_argument(
        "--mutations", default="", metavar="TEXT", help="only mutations whose name holds this text; `none` for none"
    )
    parser.add_argument(
        "--small-world-minutes", type=float, default=10, help="of one core, to explore the small world (default: %(default)s)"
    )
    parser.add_argument(
        "--small-mutation-minutes", type=float, default=0.5, help="of one core, to explore each mutation (default: %(default)s)"
    )
    parser.add_argument("--kernel-seeds", type=int, default=100, help="walks on the real kernel (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at one time (default: %(default)s)")
    arguments = parser.parse_args()
    held = [walk(arguments.steps, arguments.seed, arguments.workers)] if arguments.steps else []
    if arguments.small_world_minutes:
        held.append(explore(arguments.small_world_minutes))
    if arguments.kernel_seeds:
        held.append(not kernel_walk.walk_all(arguments.kernel_seeds, arguments.seed, arguments.workers, say))
    if arguments.mutations != "none":
        held.append(mutate(arguments.seed, arguments.mutations, arguments.workers))
        if arguments.small_mutation_minutes:
            held.append(mutate_small(arguments.mutations, arguments.small_mutation_minutes, arguments.workers))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
