"""`cni-reaper explain`: all that is known of one reservation, which rule decided, and what would change the verdict."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cni_reaper_plugin.host_local.pool import PoolError, pack
from cni_reaper_plugin.model import LIVE, STALE, UNKNOWN, SkippedError, StrandedError
from cni_reaper_plugin.operator import terminal
from cni_reaper_plugin.operator.inspect import inhabitants, published_ports
from cni_reaper_plugin.operator.inspect.inspection import Row, inspect, own_call
from cni_reaper_plugin.operator.inspect.rule_texts import rule
from cni_reaper_plugin.operator.scope import Scope

TOLD, NOT_THERE, WRONG = 0, 1, 2
"""Exit codes."""

if TYPE_CHECKING:
    from cni_reaper_plugin.model import Mapping, Netns

    Lines = list[tuple[str, str]]


def run(what: str, scope: Scope) -> int:
    """Explain every reservation of an address, or of container IDs that begin so."""
    rows: list[tuple[str, Row]] = []
    problems = []
    published, networks, is_complete = published_ports.Published(scope.conf_dirs, []), [], False
    try:
        call, targets = own_call(), scope.targets()
        for target in targets:
            try:
                found = inspect(target.network, target.pool, call, target.settings, lambda _: None)
            except (OSError, SkippedError, StrandedError) as e:
                problems.append(f"network {target.network}: {e}")
                continue
            networks.append(found)
            rows += [(target.settings.data_dir, row) for row in found.rows if _is_meant(what, row)]
        is_complete = not scope.networks and len(networks) == len(targets)
    except (OSError, PoolError) as e:
        problems.append(str(e))
    console, errors = terminal.console(), terminal.console(errors=True)
    astray = published.astray(networks, is_complete)
    for data_dir, row in rows:
        console.print(
            _table([*_reservation(data_dir, row), *_mapping(row), *_others(row), *_published(published, row), *_answer(row)])
        )
    for one in astray:
        if _leads_there(what, one, [row for _, row in rows]):
            console.print(_table(_astray(one)))
    for problem in [*problems, *([published_ports.UNSEEN % published.trouble] if published.trouble else [])]:
        errors.print(f"cni-reaper explain: {terminal.printable(problem)}")
    if problems:
        return WRONG
    if not rows:
        errors.print(
            f"cni-reaper explain: no reservation of {terminal.printable(what)} on this node; "
            "`cni-reaper audit` shows all, and broken files"
        )
        return NOT_THERE
    return TOLD


def _is_meant(what: str, row: Row) -> bool:
    """Tell whether a text is the reservation's address, in any spelling, or the beginning of its owner's ID."""
    packed = pack(what)
    if what == row.reservation.address or (packed and packed == row.evidence.packed):
        return True
    return not packed and row.reservation.container_id.startswith(what)


def _leads_there(what: str, astray: published_ports.Astray, rows: list[Row]) -> bool:
    """Tell whether ports astray lead to what is explained, or are of a container that is."""
    packed = pack(what)
    addresses = {packed, *(row.evidence.packed for row in rows)} - {b""}
    return astray.ports[0].address in addresses or (not packed and astray.container.startswith(what))


def _table(lines: Lines) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in lines:
        colour = terminal.COLOURS.get(re.split("[:,]", value)[0], "") if name == "verdict" else ""
        table.add_row(name, Text(terminal.printable(value), colour))
    table.add_row("", "")
    return table


def _reservation(data_dir: str, row: Row) -> Lines:
    reservation = row.reservation
    owner = f"{reservation.container_id} {reservation.ifname}" if reservation.container_id else "none that can be read"
    try:
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(reservation.mtime_s))
    except (OverflowError, OSError, ValueError):
        written = f"at a time that is none, {reservation.mtime_s}"
    return [
        ("reservation", f"{data_dir}/{reservation.network}/{reservation.address}"),
        ("owner", owner.strip()),
        ("pod", row.pod or "not told"),
        ("written", f"{written} UTC, {terminal.age(row.age_s)} ago (never evidence)"),
    ]


def _mapping(row: Row) -> Lines:
    mapping = row.evidence.mapping
    if mapping is None:
        return [("netns", "none known: no record of ours, and no entry in libcni's cache")]
    boot_id = row.evidence.surroundings.boot_id
    lines = [("netns", f"{mapping.path}, says the {_source(mapping)}")]
    if mapping.recorded is not None:
        boot = "this boot" if mapping.boot_id == boot_id else f"another boot, {mapping.boot_id}"
        lines.append(("recorded", f"{_identity(mapping.recorded)}, in {boot}"))
        lines.append(("by", "ADD at the head of the chain" if mapping.head else "ADD behind other plugins"))
        if mapping.deleted:
            lines.append(("DEL", "has been here since"))
        if mapping.outlived:
            lines.append(
                ("earlier life", "the reservation is younger: cni-reaper got no ADD for it, so the record does not prove death")
            )
    lines.append(("there now", _now(mapping, boot_id)))
    return lines


def _source(mapping: Mapping) -> str:
    return {"record": "record of our own", "cache": "entry in libcni's cache", "cnitool": "ID, which is the path's hash"}.get(
        mapping.source, mapping.source
    )


def _now(mapping: Mapping, boot_id: str) -> str:
    if mapping.now is None:
        return "nothing" if mapping.state == "gone" else mapping.state
    if mapping.recorded is None:
        return _identity(mapping.now) + (", the host's own" if mapping.of_host else "")
    same = "what was recorded" if mapping.stands(boot_id) else "another than was recorded"
    return f"{_identity(mapping.now)}: {same}"


def _identity(netns: Netns) -> str:
    return "netns %d:%d" % (netns.dev, netns.ino) + (", number %d" % netns.ns_id if netns.ns_id else "")


def _others(row: Row) -> Lines:
    evidence = row.evidence
    surroundings = evidence.surroundings
    visible = list(surroundings.visible())
    holders = [seen for seen in visible if evidence.packed and seen.addresses is not None and evidence.packed in seen.addresses]
    foreign = sum(seen.foreign for seen in visible)
    blind = sum(seen.addresses is None and not seen.foreign for seen in visible)
    told = (", %d cannot be looked into" % blind if blind else "") + (", %d of other users" % foreign if foreign else "")
    lines = [
        ("visible", "%d network namespaces on this node%s" % (len(visible), told)),
        ("address in", ", ".join(seen.place or "a netns" for seen in holders) or "none of them"),
    ]
    if row.verdict != LIVE:
        nobodys = inhabitants.told(surroundings.unaccounted(row.reservation.container_id))
        told = "%d of them may be this owner's: %s" % (len(nobodys), ", ".join(nobodys))
        lines.append(("of nobody", told if nobodys else "none of them may be this owner's"))
    lines += [
        ("sibling", f"{sibling.path}, says the {_source(sibling)}: {_now(sibling, surroundings.boot_id)}")
        for sibling in evidence.siblings
    ]
    if evidence.suspect:
        lines.append(("runtime", "names this container" if evidence.named else "does not name this container"))
    remembered = evidence.unclaimed
    if remembered is not None:
        left = terminal.age(max(0, int(surroundings.grace_s - remembered.age_s)))
        waited = terminal.age(int(remembered.age_s))
        lines.append(("waited for", "%s; %s are left of graceSeconds, %d" % (waited, left, surroundings.grace_s)))
    if evidence.trouble:
        lines.append(("trouble", evidence.trouble))
    return lines


def _published(published: published_ports.Published, row: Row) -> Lines:
    """Say which ports of the node lead to the address, by rules of its owner."""
    reservation = row.reservation
    theirs = [one for one in published.ports if one.is_of(reservation.network, reservation.container_id)]
    there = tuple(one for one in theirs if one.address == row.evidence.packed)
    then = {STALE: "; taken back before the address is freed", UNKNOWN: "; they stay as long as the reservation"}
    return [("published", published_ports.leads(there) + then.get(row.verdict, ""))] if there else []


def _astray(astray: published_ports.Astray) -> Lines:
    return [("astray", astray.what), ("what to do", astray.advice)]


def _answer(row: Row) -> Lines:
    decided = rule(row.reason)
    verdict = row.verdict + (": looks STALE, but from a view that no ADD has proven" if row.unproven else "")
    return [
        ("verdict", f"{verdict}, {row.reason.text}"),
        ("reason", row.reason.code),
        ("rule", f"docs/evidence.md, {decided.where}"),
        ("would change", decided.change),
    ]
