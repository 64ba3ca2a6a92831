"""`cni-reaper doctor`: is this node set up so that leaks are freed? Changes nothing. docs/doctor.md has every finding."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import orjson
from rich.text import Text

from cni_reaper_plugin.host_local.pool import PoolError
from cni_reaper_plugin.model import SkippedError, StrandedError
from cni_reaper_plugin.operator import terminal
from cni_reaper_plugin.operator.conflists import conflist, entry, position
from cni_reaper_plugin.operator.conflists.conflist import Conflist
from cni_reaper_plugin.operator.conflists.runtimes import ETC, places
from cni_reaper_plugin.operator.doctor import catalogue, conflists, executables, host
from cni_reaper_plugin.operator.doctor.catalogue import ERROR, LEVELS, NOTE, OK, WARNING
from cni_reaper_plugin.operator.inspect import published_ports
from cni_reaper_plugin.operator.inspect.inspection import Inspected, inspect, own_call
from cni_reaper_plugin.operator.mend import broken_files, cache_census, cache_places, mend
from cni_reaper_plugin.operator.scope import Scope
from cni_reaper_plugin.options import Settings

COLOURS = {OK: "green", NOTE: "cyan", WARNING: "yellow", ERROR: "bold red"}
MOST_ASTRAY = 16

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_reaper_plugin.operator.doctor.catalogue import Finding


def run(directories: list[str], bin_dirs: list[str], as_json: bool) -> int:
    """Look at the node, print what is found, and return the exit code: 0 nothing to do, 1 warnings, 2 errors.

    directories, bin_dirs: where conflists and executables are; [] for where the runtimes of this node look.
    """
    findings = list(examine(directories, bin_dirs))
    _print_json(findings) if as_json else _print(findings)
    return max((LEVELS.index(one.level) - LEVELS.index(NOTE) for one in findings if one.level in (WARNING, ERROR)), default=0)


def examine(directories: list[str], bin_dirs: list[str]) -> Iterator[Finding]:
    """Yield every finding about the node."""
    looked_at, unread = places(directories, bin_dirs)
    for text in unread:
        yield catalogue.CONFIG_UNREADABLE.at(text.partition(": ")[0], trouble=text)
    by_place = [(place, conflist.found([place.conf_dir])) for place in looked_at]
    known = any(place.sure and here for place, here in by_place)
    for place, here in by_place:
        in_use = place.sure or not known  # podman's /etc/cni/net.d on a node of k3s is not
        yield from conflists.check(here, in_use)
        if in_use and (here or len(by_place) == 1):
            run = here[: position.master(here) + 1] or here  # multus' own file and its master, or the one
            lists = [one for _, one in run if isinstance(one, Conflist)]
            types = [kind for one in lists for kind in (*one.types, *(ipam.kind for ipam in conflist.ipams(one)))]
            for path in place.paths or [place.bin_dirs]:
                yield from executables.check(types, path)
    entries = [one for _, here in by_place for one in here]
    if not entries:
        where = ", ".join(place.conf_dir for place in looked_at) or ETC
        yield catalogue.NO_CONFLIST.at(where)
    yield from host.check(entry.settings_of(entries) or [("", Settings())])
    yield from _networks(directories, bin_dirs)
    yield from _broken_files(directories)


def _networks(directories: list[str], bin_dirs: list[str]) -> Iterator[Finding]:
    """Look at the reservations, and at what leads to them; what cannot be judged is for audit to say."""
    published = published_ports.Published(directories, bin_dirs)
    try:
        call, targets = own_call(), Scope([], "", "", [], directories).targets()
    except (OSError, PoolError):
        return
    networks = []
    for target in targets:
        with contextlib.suppress(OSError, SkippedError, StrandedError):
            networks.append(inspect(target.network, target.pool, call, target.settings, lambda _: None))
    yield from _lifeless(networks)
    yield from _published(published, networks, len(networks) == len(targets))


def _published(published: published_ports.Published, networks: list[Inspected], is_complete: bool) -> Iterator[Finding]:
    """Say which published ports lead to an address that their container does not have."""
    if published.trouble:
        yield catalogue.PUBLISHED_UNSEEN.at(host.NODE, trouble=published.trouble)
    found = published.astray(networks, is_complete)
    for one in found[:MOST_ASTRAY]:
        what = one.what[:1].upper() + one.what[1:]
        yield (catalogue.PUBLISHED_TO_ANOTHER if one.holder else catalogue.PUBLISHED_TO_NONE).at(
            host.NODE, what=what, advice=one.advice
        )
    more = found[MOST_ASTRAY:]
    if more:
        is_grave = any(one.holder for one in more)
        yield (catalogue.MORE_PUBLISHED_TO_ANOTHER if is_grave else catalogue.MORE_PUBLISHED_TO_NONE).at(
            host.NODE, count=len(more)
        )


def _lifeless(networks: list[Inspected]) -> Iterator[Finding]:
    """Say of each network which addresses network namespaces without life hold."""
    for found in networks:
        if found.lifeless:
            address, netns = next(iter(found.lifeless.items()))
            yield catalogue.LIFELESS.at("network " + found.name, count=len(found.lifeless), address=address, netns=netns)


def _broken_files(conf_dirs: list[str]) -> Iterator[Finding]:
    """Say of each directory which of its files are broken and keep pods from ending. conf_dirs: see cache_places.told."""
    told = cache_places.told(conf_dirs)
    found = cache_census.broken(mend.found_places(told), told.networks)
    why = broken_files.why_they_stay(told)
    for directory, files in broken_files.by_directory(found).items():
        in_words = broken_files.in_words(files)
        if why:
            yield catalogue.CACHE_BROKEN_STAYS.at(directory, files=in_words, why=why)
        else:
            yield catalogue.CACHE_BROKEN.at(directory, files=in_words)
    for trouble in found.trouble:
        yield catalogue.CACHE_UNREADABLE.at(host.NODE, trouble=trouble)
    if not found.broken and not found.trouble:
        yield catalogue.CACHE_WHOLE.at(host.NODE)


def _print_json(findings: list[Finding]) -> None:
    told = [{name: terminal.printable(text) for name, text in one._asdict().items()} for one in findings]
    sys.stdout.write(orjson.dumps({"findings": told}, option=orjson.OPT_INDENT_2).decode() + "\n")


def _print(findings: list[Finding]) -> None:
    """Print the findings by their subject: one line each, and below it what to do."""
    told = Text()
    for subject in dict.fromkeys(one.subject for one in findings):
        told.append(terminal.printable(subject) + "\n", "bold")
        for one in findings:
            if one.subject == subject:
                told.append("  %-8s" % one.level, COLOURS[one.level])
                told.append(f"{terminal.printable(one.finding)}  [{one.key}]\n")
                told.append(f"          -> {terminal.printable(one.advice)}\n" if one.advice else "")
    counts = ["%d %s" % (sum(one.level == level for one in findings), level) for level in reversed(LEVELS)]
    told.append(", ".join(counts))
    terminal.console().print(told, soft_wrap=True)
