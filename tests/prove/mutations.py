"""Mutations of the product, each of which the proof has to catch: a rule taken away, a condition weakened, an order swapped.

A mutation is an exact piece of source and what stands there instead. It is put into a copy of the product, and the copy is given
to the model and to the unit tests of the judge and the store; a piece that is no longer there exactly once is an error.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cni_reaper_plugin.event_log import DEFECT
from tests.support.programs import ROOT

PACKAGE = "cni_reaper_plugin"
STEPS = 12_000
PATIENCE = 20  # so many times as many, before nothing is said to have caught a mutation
UNIT_TESTS = (
    "tests/prove/test_gaps.py",
    "tests/prove/test_small_races.py",
    "tests/prove/test_traces.py",
    "tests/unit/test_decision.py",
    "tests/unit/test_quick_evidence.py",
    "tests/unit/test_store.py",
    "tests/unit/test_records.py",
    "tests/unit/test_runtime_names.py",
    "tests/unit/test_live_cache.py",
    "tests/unit/test_waiting_owners.py",
    "tests/unit/test_gate.py",
    "tests/unit/test_user_namespaces.py",
    "tests/unit/test_visible_netns.py",
    "tests/unit/test_rtnetlink.py",
    "tests/unit/test_whose_netns.py",
    "tests/unit/test_failed_add.py",
    "tests/unit/test_proven_views.py",
    "tests/unit/test_other_nodes.py",
    "tests/unit/test_published.py",
)

IN_THE_SMALL_WORLD = (
    "row 4 (netns_gone)",
    "netns first, reservations afterwards",
    "no guard at all",
    "the last guard lets configured addresses go",
    "a dark netns of nobody counts for nothing",
    "the named guard is left out",
    "addresses at the far end of links count for nothing",
    "row 4 does not ask whether the inode is visible",
)
"""Mutations that the small world catches two events deep, each by a broken promise and not by a crash."""


@dataclass(frozen=True)
class Mutation:
    """One change. name: what is lost; file: below the package; before, after: the text."""

    name: str
    file: str
    before: str
    after: str


def _row(number: str, name: str) -> Mutation:
    return Mutation(f"row {number} ({name}) is left out", "reaper/decision.py", f"    ({number}, _{name}),\n", "")


MUTATIONS = (
    _row("1", "own_call"),
    _row("0", "source_unreadable"),
    _row("2", "other_boot"),
    _row("3", "netns_there"),
    _row("4", "netns_gone"),
    _row("5", "inode_elsewhere"),
    _row("6", "listed"),
    _row("7", "blank"),
    _row("0", "sibling"),
    _row("8", "unmapped"),
    _row("9", "unclaimed"),
    _row("10", "not_listed"),
    Mutation(
        "no guard at all",
        "reaper/decision.py",
        "            return _guarded(answer, number, reservation, evidence) if answer[0] == STALE else answer\n",
        "            return answer\n",
    ),
    Mutation(
        "the last guard lets configured addresses go",
        "reaper/decision.py",
        "            if evidence.packed in seen.addresses:\n                return LIVE",
        "            if evidence.packed in seen.addresses and not row:\n                return LIVE",
    ),
    Mutation(
        "a dark netns of nobody counts for nothing",
        "reaper/decision.py",
        "        elif row in NAMED_ROWS and not seen.is_accounted(reservation.container_id):\n",
        "        elif row in NAMED_ROWS and seen.is_accounted(reservation.container_id):\n",
    ),
    Mutation(
        "the named guard is left out", "reaper/decision.py", "    if row in NAMED_ROWS and evidence.named:\n", "    if row < 0:\n"
    ),
    Mutation(
        "addresses at the far end of links count for nothing",
        "reaper/decision.py",
        "    if evidence.packed in surroundings.peer_addresses:\n",
        "    if not surroundings.deep:\n",
    ),
    Mutation(
        "another boot ID is enough for row 2",
        "reaper/decision.py",
        "    if mapping.now is not None and mapping.now.is_proven(mapping.recorded, same_boot=False):\n        return None\n",
        "",
    ),
    Mutation(
        "row 2 does not ask whether the netns is elsewhere",
        "reaper/decision.py",
        "    if any(seen.netns.is_proven(recorded, same_boot=False) for seen in evidence.surroundings.visible()):\n",
        "    if recorded is None:\n",
    ),
    Mutation(
        "row 4 does not ask whether the inode is visible",
        "reaper/decision.py",
        "    return (STALE, NETNS_GONE) if seen is None or seen.netns.is_another(mapping.recorded) else None\n",
        "    return STALE, NETNS_GONE\n",
    ),
    Mutation(
        "row 5 takes any other ctime for another netns",
        "reaper/decision.py",
        "    return (STALE, NETNS_GONE) if seen.is_accounted(reservation.container_id) else None\n",
        "    return STALE, NETNS_GONE\n",
    ),
    Mutation(
        "every record proves death",
        "model.py",
        'return self.recorded is not None and ((self.head and not self.outlived) or bool(self.pod.get("uid")))',
        "return self.recorded is not None",
    ),
    Mutation(
        "row 9 forgets the netns of then",
        "reaper/decision.py",
        "    for candidate in remembered.netns:\n",
        "    for candidate in remembered.netns[:0]:\n",
    ),
    Mutation(
        "row 9 does not wait",
        "reaper/decision.py",
        "    if remembered.age_s >= surroundings.grace_s:\n",
        "    if remembered.age_s >= 0:\n",
    ),
    Mutation(
        "row 9 never gives up waiting",
        "reaper/decision.py",
        "    if remembered.age_s >= surroundings.grace_s:\n        return STALE, UNCLAIMED\n",
        "",
    ),
    Mutation(
        "row 10 takes any list",
        "reaper/decision.py",
        "    return (STALE, NOT_LISTED) if surroundings.list_complete or not surroundings.deep else None\n",
        "    return STALE, NOT_LISTED\n",
    ),
    Mutation("row 10 does not wait", "reaper/decision.py", "remembered.age_s < LISTED_AFTER_S", "remembered.age_s < 0"),
    Mutation(
        "added again: without regard to what stood before",
        "reaper/decision.py",
        "    if (reservation.address, reservation.ino, reservation.ctime) not in call.standing:\n        return False"
        "  # an ADD that runs beside this one has made it\n",
        "",
    ),
    Mutation(
        "left by DEL: whatever CNI_NETNS says",
        "reaper/decision.py",
        "    return call.netns is not None and mapping.recorded is not None and call.netns.is_proven(mapping.recorded)\n",
        "    return True\n",
    ),
    Mutation(
        "an operator's notes are owners",
        "reaper/decision.py",
        "    return bool(reservation.ifname) and not reservation.content[-1:].isspace()\n",
        "    return True\n",
    ),
    Mutation(
        "an operator's note of two lines is an owner",
        "reaper/decision.py",
        "    return bool(reservation.ifname) and not reservation.content[-1:].isspace()\n",
        "    return bool(reservation.ifname)\n",
    ),
    Mutation(
        "a record of another node of this kernel proves death",
        "other_nodes.py",
        "        return OTHER_NODE\n",
        "        return None\n",
    ),
    Mutation(
        "on a shared store any record proves death",
        "other_nodes.py",
        "is_recorded and is_this(proof.node, surroundings.node, is_same_boot) else SHARED_STORE",
        "is_recorded else SHARED_STORE",
    ),
    Mutation(
        "on a shared store every row proves death",
        "other_nodes.py",
        "    is_recorded = is_by_record and (",
        "    is_recorded = (",
    ),
    Mutation(
        "on a shared store no record is needed",
        "other_nodes.py",
        "        return SHARED_STORE if surroundings.shared else None\n",
        "        return None\n",
    ),
    Mutation(
        "on a shared store a sibling's record proves death",
        "other_nodes.py",
        ' and (reason == ADDED_AGAIN or evidence.record != b"")\n',
        "\n",
    ),
    Mutation(
        "nodes without a machine ID are one node",
        "other_nodes.py",
        ' and (theirs[0] != "" or is_same_boot)\n',
        "\n",
    ),
    Mutation(
        "an equal inode number proves the same netns",
        "model.py",
        "        return self.ctime != 0 and self.ctime == other.ctime\n",
        "        return True\n",
    ),
    Mutation(
        "netns first, reservations afterwards",
        "reaper/reap_network.py",
        "    addresses = _beginning_with(candidate, network.addresses())\n"
        "    reservations: list[Reservation] = []\n"
        "    taken = 0\n"
        "    while taken < len(addresses) and not (taken and budget.spent(share=0.6)):\n"
        "        reservations += network.snapshot(addresses[taken : taken + SLICE])\n"
        "        taken += SLICE\n"
        "    judged = Judging(sweep, reservations, addresses[taken:], memory).all(others_wait)\n",
        "    from cni_reaper_plugin.namespaces import visible\n"
        "    early, late = visible.everywhere(8.0), visible.everywhere\n"
        "    addresses = _beginning_with(candidate, network.addresses())\n"
        "    reservations: list[Reservation] = []\n"
        "    taken = 0\n"
        "    while taken < len(addresses) and not (taken and budget.spent(share=0.6)):\n"
        "        reservations += network.snapshot(addresses[taken : taken + SLICE])\n"
        "        taken += SLICE\n"
        "    visible.everywhere = lambda _: early\n"
        "    try:\n"
        "        judged = Judging(sweep, reservations, addresses[taken:], memory).all(others_wait)\n"
        "    finally:\n"
        "        visible.everywhere = late\n",
    ),
    Mutation(
        "what is removed is not read again",
        "host_local/store.py",
        "                if now is None or (now.ino, now.ctime, now.content) != (judged.ino, judged.ctime, judged.content) "
        "or not now.ino:\n",
        "                if now is None:\n",
    ),
    Mutation(
        "the owner's record is not read again",
        "host_local/store.py",
        "                if judged.kind != BLANK and not still_judged(judged):\n                    continue\n",
        "",
    ),
    Mutation(
        "host-local's lock is not waited for",
        "host_local/store.py",
        '                raise SkippedError("host-local\'s lock was held by others all the time")\n',
        "                pass\n",
    ),
    Mutation(
        "a blank file is removed without the directory's lock",
        "host_local/store.py",
        "                    if not free:\n",
        "                    if False:\n",
    ),
    Mutation(
        "the record of an earlier life proves death",
        "model.py",
        "((self.head and not self.outlived) or",
        "(self.head or",
    ),
    Mutation(
        "a reservation is never of a later life than its record",
        "evidence/quick_evidence.py",
        "                    mapping.outlived = _is_outlived(",
        "                    _is_outlived(",
    ),
    Mutation(
        "the self-check always passes",
        "plugin/verbs.py",
        "        call.self_checked = call.netns is not None and visible.sees(call.netns_path, call.netns)\n",
        "        call.self_checked = True\n",
    ),
    Mutation(
        "every view is proven",
        "memory/proven_views.py",
        "    known = proven(boot_id)\n    if view in known:\n        return ALL\n",
        "    known = proven(boot_id)\n    return ALL\n",
    ),
    Mutation(
        "a call's netns counts for its own container as another's",
        "evidence/quick_evidence.py",
        "        seen.names.add(call.attachment.container_id)\n",
        "        seen.host = True\n",
    ),
    Mutation(
        "the netns of a DEL is its container's",
        "evidence/quick_evidence.py",
        '    if call.verb != "ADD" or call.netns is None or',
        "    if call.netns is None or",
    ),
    Mutation(
        "an address that is shown is enough",
        "namespaces/shown_addresses.py",
        "        if there <= owners and (there or is_named_in(owner, seen)):\n",
        "        if there <= owners:\n",
    ),
    Mutation(
        "a netns of two containers is the one's that shows its address",
        "namespaces/shown_addresses.py",
        "        if there <= owners and (there or is_named_in(owner, seen)):\n",
        "        if owner in there or is_named_in(owner, seen):\n",
    ),
    Mutation(
        "an address that two netns show tells of either",
        "namespaces/shown_addresses.py",
        "times.get(packed) == 1}",
        "packed in times}",
    ),
    Mutation(
        "two addresses of two containers tell of either",
        "namespaces/shown_addresses.py",
        " or len(owners) != 1:\n",
        " or not owners:\n",
    ),
    Mutation(
        "a network of which nothing is seen counts as seen",
        "namespaces/shown_addresses.py",
        "    if not any(not seen.host and not (of_network & plain)",
        "    if not any(not seen.host and not plain",
    ),
    Mutation(
        "a unit need not be in its netns as a whole",
        "namespaces/assigned.py",
        "if processes.of_unit[unit] <= inside and _is_bare(seen, inside):",
        "if _is_bare(seen, inside):",
    ),
    Mutation("a unit's netns may be mounted", "namespaces/assigned.py", " or not unit or mounts:\n", " or not unit:\n"),
    Mutation(
        "a unit's netns may have an interface",
        "namespaces/assigned.py",
        "        return links <= FALLBACK_LINKS\n",
        "        return True\n",
    ),
    Mutation(
        "a unit's netns may have an address",
        "namespaces/assigned.py",
        " or not all(_is_loopback(one) for one in seen.addresses):\n",
        ":\n",
    ),
    Mutation(
        "who holds a netns open is not asked",
        "namespaces/assigned.py",
        'holders = inside | {int(path.split("/")[2]) for path in others}',
        "holders = inside",
    ),
    Mutation(
        "a user's systemd is the system's",
        "namespaces/assigned.py",
        'any(not one.endswith(".slice") or "kubepods" in one for one in above)',
        'any("kubepods" in one for one in above)',
    ),
    Mutation("a scope is a unit", "namespaces/assigned.py", '    if not name.endswith(".service") or any(', "    if any("),
    Mutation(
        "a controller may have any group of its own",
        "namespaces/assigned.py",
        'return own if all((own + "/").startswith(path.rstrip("/") + "/") for _, path in paths) else ""',
        "return own",
    ),
    Mutation(
        "a netns that an entry names is a unit's",
        "namespaces/assigned.py",
        "        if seen.netns.ino in claimed or not all(",
        "        if not all(",
    ),
    Mutation(
        "docker's container is never the owner's own",
        "scan_model.py",
        "            return owner not in self.containers and",
        "            return",
    ),
    Mutation("docker's container is never Nomad's", "scan_model.py", " and self.is_dockers_id(owner)\n", "\n"),
    Mutation(
        "a pod's container is docker's own",
        "namespaces/assigned.py",
        '    if any("kubepods" in path for _, path in paths):\n        return ""\n',
        "",
    ),
    Mutation(
        "a container may have made the netns in which a part of it is",
        "namespaces/assigned.py",
        "if all(processes.of_container[one] <= inside for one in containers):",
        "if containers:",
    ),
    Mutation(
        "an address alone accounts for a netns",
        "evidence/kin.py",
        " for owner in holders.get(packed, ()) if self._stands_at(owner, seen))",
        " for owner in holders.get(packed, ()))",
    ),
    Mutation(
        "a cache entry leads to its netns, whatever its name",
        "evidence/kin.py",
        "mapping.now.same_inode(seen.netns) and is_random(mapping.path)",
        "mapping.now.same_inode(seen.netns)",
    ),
    Mutation(
        "a process's path accounts by its number",
        "evidence/kin.py",
        "if seen is not None and seen.netns.is_proven(recorded, same_boot):",
        "if seen is not None and (seen.netns.is_proven(recorded, same_boot) or mapping.stands(surroundings.boot_id)):",
    ),
    Mutation(
        "a container that has had its DEL accounts for its netns",
        "evidence/kin.py",
        "                if mapping.deleted:\n                    continue",
        "                if False:\n                    continue",
    ),
    Mutation(
        "the other family of an attachment says nothing",
        "evidence/kin.py",
        ' or (":" in other.address) != (":" in reservation.address):',
        ":",
    ),
    Mutation(
        "a call's netns is known by its inode number",
        "evidence/quick_evidence.py",
        "    if seen.netns.is_proven(call.netns) or (",
        "    if seen or (",
    ),
    Mutation(
        "an ADD leaves an older record where it is",
        "plugin/attachment_records.py",
        "                directory.remove(attachment)\n                new = ",
        "                return\n                new = ",
    ),
    Mutation(
        "a record is marked beside an ADD that writes it anew",
        "evidence/records.py",
        "        if flock.take(fd, fcntl.LOCK_EX, LOCK_WAIT_S):\n",
        "        if flock.take(fd, fcntl.LOCK_SH, LOCK_WAIT_S):\n",
    ),
    Mutation(
        "what is remembered counts in every boot",
        "memory/waiting_owners.py",
        '        if noted["bootID"] != self.boot_id:\n            return\n',
        "",
    ),
    Mutation(
        "what is remembered counts for another file",
        "memory/waiting_owners.py",
        "        if (ino, ctime) != (reservation.ino, reservation.ctime):\n            return None\n",
        "",
    ),
    Mutation(
        "whoever was reported has been looked for",
        "reaper/quick_scan.py",
        "                remembered.remember([one.reservation], None)",
        "                remembered.remember([one.reservation], [])",
    ),
    Mutation(
        "what stays is remembered for another file",
        "memory/waiting_owners.py",
        "        if kept is None or kept[:3] != (reservation.ino, reservation.ctime, record.decode()):\n",
        "        if kept is None:\n",
    ),
    Mutation(
        "what stays is remembered wherever its proof has gone",
        "memory/waiting_owners.py",
        "        return _stands(place) if place is not None else dry_run\n",
        "        return True\n",
    ),
    Mutation(
        "a scan that was begun before the quick scan counts as one after it",
        "reaper/gate.py",
        "        return self._begun < self._read(1) <= self._read(0) and",
        "        return 0 < self._read(1) <= self._read(0) and",
    ),
    Mutation(
        "a scan of which nobody knows that it was begun counts",
        "reaper/gate.py",
        "        return self._begun < self._read(1) <= self._read(0) and",
        "        return self._begun < self._read(1) and",
    ),
    Mutation(
        "a scan on other terms counts",
        "reaper/gate.py",
        " and self._read_terms() == self._terms\n",
        "\n",
    ),
    Mutation(
        "whoever changes its mount namespace all the time is passed over",
        "namespaces/visible.py",
        "    if user_namespaces.can_mount_nothing(process):\n",
        "    if process:\n",
    ),
    Mutation(
        "a thread that ends answers for its process",
        "namespaces/user_namespaces.py",
        "    return all(_can_mount_nothing(",
        "    return any(_can_mount_nothing(",
    ),
    Mutation(
        "a scan that was cut off counts as a whole one",
        "reaper/reap_network.py",
        "    is_whole = not following and call.may_reap is ALL and",
        "    is_whole = call.may_reap is ALL and",
    ),
    Mutation(
        "a noted owner is LIVE whatever stands at its path",
        "memory/live_cache.py",
        "            stands = files.identity(path, files.HERE, 0) == (dev, netns_ino, netns_ctime)\n",
        "            stands = files.identity(path, files.HERE, 0) != (0, 0, 0)\n",
    ),
    Mutation(
        "a source that fails is no trouble",
        "reaper/full_scan.py",
        "            if self.surroundings.trouble:\n                raise SkippedError(self.surroundings.trouble)\n",
        '            self.surroundings.trouble = ""\n',
    ),
    Mutation(
        "mounts of the runtime's user are passed over as another's",
        "namespaces/visible.py",
        "        if (number, root) not in roots and not user_namespaces.are_mounts_foreign(task):\n",
        "        if (number, root) not in roots and user_namespaces.are_mounts_foreign(task):\n",
    ),
    Mutation(
        "a number of 64 bits may be a netns's",
        "namespaces/visible.py",
        "        if number and not _FIRST_NUMBER <= int(number) <= _LAST_NUMBER:\n",
        "        if number and not _FIRST_NUMBER <= int(number):\n",
    ),
    Mutation(
        "a descriptor whose number the kernel does not tell is no netns",
        "namespaces/visible.py",
        '        if not number and user_namespaces.is_process_powerless(path.rpartition("/fd/")[0]):\n',
        "        if not number:\n",
    ),
    Mutation(
        "a user's descriptor whose number the kernel does not tell is asked",
        "namespaces/visible.py",
        '        if not number and user_namespaces.is_process_powerless(path.rpartition("/fd/")[0]):\n',
        "        if False:\n",
    ),
    Mutation(
        "a file is asked by its server what it is",
        "system/files.py",
        "        if identity(here, HERE, UNASKED)[0] != device:\n",
        "        if identity(here, HERE, 0)[0] != device:\n",
    ),
    Mutation(
        "a mount namespace counts as read although the process has left it",
        "namespaces/visible.py",
        "            if not _is_in(task, number, root):\n",
        "            if not number:\n",
    ),
    Mutation(
        "what the far end of a link shows is believed not to last",
        "namespaces/peer_addresses.py",
        "        gone = doubtful - addresses(visible)\n",
        "        gone = doubtful\n",
    ),
    Mutation(
        "another user's addresses count",
        "reaper/decision.py",
        "        if seen.foreign:\n            continue  # its user can configure any address, and no pod is in it\n",
        "",
    ),
    Mutation(
        "another user's netns is nobody's", "scan_model.py", "self.host or self.foreign or len(names)", "self.host or len(names)"
    ),
    Mutation(
        "another user's addresses count for a sibling",
        "reaper/decision.py",
        "        if not seen.foreign and seen.addresses is not None and not evidence.sibling",
        "        if seen.addresses is not None and not evidence.sibling",
    ),
    Mutation(
        "what another user has made is his, wherever root has mounted it",
        "namespaces/visible.py",
        "bool(self.owned_by_other) and not self.mounts",
        "bool(self.owned_by_other)",
    ),
    Mutation(
        "a netns is another user's where its owner is not known",
        "namespaces/visible.py",
        "bool(self.owned_by_other) and not self.mounts",
        "self.owned_by_other is not False and not self.mounts",
    ),
    Mutation(
        "descriptors of root's processes are passed over",
        "namespaces/visible.py",
        "            if number > _FEW and user_namespaces.is_process_powerless(task):\n",
        "            if number > _FEW:\n",
    ),
    Mutation(
        "descriptors of other users are all looked at",
        "namespaces/visible.py",
        "                if number > self._left:\n                    return\n",
        "",
    ),
    Mutation(
        "a list that changed is taken for a whole one",
        "system/rtnetlink.py",
        "            if consistent:\n                return found\n",
        "            return found\n",
    ),
    Mutation(
        "a far end that is not seen may change",
        "namespaces/peer_addresses.py",
        "        if unsteady and not unsteady <= _nsids(netlink, visible):\n",
        "        if not unsteady <= unsteady:\n",
    ),
    Mutation(
        "what a changing far end showed is not in use",
        "namespaces/peer_addresses.py",
        "                found |= e.found\n",
        "",
    ),
    Mutation(
        "what the far end of a link shows is believed at once",
        "namespaces/peer_addresses.py",
        "    for pause_s in _ASKED_AGAIN_AFTER_S:\n",
        "    for pause_s in ():\n",
    ),
    Mutation(
        "any DEL proves the view",
        "plugin/first_del.py",
        " or not visible.shows_all(call.netns_path, call.netns):\n",
        ":\n",
    ),
    Mutation(
        "a DEL proves the view whatever an ADD has proven",
        "memory/proven_views.py",
        "    return view not in known and all(one[::2] == view[::2] for one in known)\n",
        "    return view not in known\n",
    ),
    Mutation(
        "what a DEL has shown counts for good",
        "memory/proven_views.py",
        '    if view in _noted(boot_id, "shown") and may_show(boot_id, view):\n',
        '    if view in _noted(boot_id, "shown"):\n',
    ),
    Mutation(
        "the netns of a failed ADD is its container's, whatever its path's name",
        "evidence/full_evidence.py",
        " or kin.knows(owner) or not is_random(path):\n",
        " or kin.knows(owner):\n",
    ),
    Mutation(
        "a container that is known may have a failed ADD's netns, too",
        "evidence/full_evidence.py",
        " or kin.knows(owner) or not is_random(path):\n",
        " or not is_random(path):\n",
    ),
    Mutation(
        "each store is this node's alone",
        "reaper/full_scan.py",
        '        self.surroundings.shared = network_file_system.name("%s/%s" % (settings.data_dir, network.name))\n',
        '        self.surroundings.shared = ""\n',
    ),
    Mutation(
        "a record of another node of this kernel says nothing of others",
        "evidence/kin.py",
        '                    surroundings.shared = surroundings.shared or "another node of this kernel writes records here"\n',
        '                    surroundings.shared = surroundings.shared or ""\n',
    ),
    Mutation(
        "GC marks the records of other nodes",
        "plugin/attachment_records.py",
        "                if record.mapping.node == ours or not _is_of_another_node(record, ours):\n",
        "                if record.mapping.node == ours or _is_of_another_node(record, ours):\n",
    ),
    Mutation(
        "records of another node of this kernel are dropped",
        "reaper/record_expiry.py",
        '    return record.mapping.boot_id == boot_id or network_file_system.name(state_dir) != ""\n',
        '    return network_file_system.name(state_dir) != ""\n',
    ),
    Mutation(
        "records of another node on a network file system are dropped",
        "reaper/record_expiry.py",
        '    return record.mapping.boot_id == boot_id or network_file_system.name(state_dir) != ""\n',
        "    return record.mapping.boot_id == boot_id\n",
    ),
    Mutation(
        "two stores share what is remembered",
        "host_local/store_key.py",
        "    if data_dir == DATA_DIR and len(network) <= LONGEST_KEY:\n",
        "    if len(network) <= LONGEST_KEY:\n",
    ),
    Mutation(
        "a person may have freed what cannot be read",
        "reaper/decision.py",
        "    if evidence.trouble or any(one.state == UNREADABLE for one in mappings):\n        return False\n",
        "",
    ),
    Mutation(
        "the far end of another user's netns counts",
        "namespaces/peer_addresses.py",
        "        for nsid in nsids - passed_over:\n",
        "        for nsid in nsids | passed_over:\n",
    ),
    Mutation(
        "what is published stays while its address goes",
        "reaper/reap_network.py",
        "    free, put_off = _without_published(sweep, stale)\n",
        "    _, put_off = _without_published(sweep, stale)\n    free = stale\n",
    ),
    Mutation(
        "the ports of a cache entry are not read",
        "published/entries.py",
        "        return bool(self.mappings and self.configs)\n",
        "        return False\n",
    ),
    Mutation(
        "without a cache entry nothing is published",
        "published/withdraw.py",
        "            if owner in self._stays or (entry is None and not backends):\n",
        "            if owner in self._stays or entry is None:\n",
    ),
    Mutation(
        "portmap's success is believed",
        "published/withdraw.py",
        "            if seen.backends(self._network, owner[0]):\n                self._keep(owner, STANDS)\n            else:\n",
        "            if True:\n",
    ),
    Mutation(
        "a DEL that fails has taken everything back",
        "published/withdraw.py",
        '        return "portmap\'s DEL failed: %s" % _said(ended) if ended.code else ""\n',
        '        return ""\n',
    ),
    Mutation(
        "what cannot be seen is not there",
        "published/withdraw.py",
        "        for owner in owners if seen.trouble else ():\n",
        "        for owner in ():\n",
    ),
    Mutation(
        "connections to the address go on",
        "published/withdraw.py",
        "                why = _end_flows(self._sweep, asked[owner], PROGRAM_S)\n",
        '                why = ""\n',
    ),
    Mutation(
        "the ports of an attachment that lives are taken as well",
        "published/withdraw.py",
        "        if self._lives_on(owner, backends, theirs[0].evidence.surroundings):\n",
        "        if not owner:\n",
    ),
    Mutation(
        "a new life's ports are taken for the old one's",
        "published/withdraw.py",
        "        if not all(map(self._still_judged, theirs)):\n",
        "        if not theirs:\n",
    ),
    Mutation(
        "what was tried a moment ago is free",
        "published/withdraw.py",
        "                self._stays[owner] = why, _NOTED\n",
        "                continue\n",
    ),
)


@dataclass(frozen=True)
class Caught:
    """What became of a mutation. by: `model`, `unit tests` or "" when nothing caught it; how: its first words."""

    mutation: Mutation
    by: str
    how: str


def fits(mutation: Mutation) -> bool:
    """Tell whether the piece that a mutation changes is in the product exactly once."""
    return (ROOT / PACKAGE / mutation.file).read_text().count(mutation.before) == 1


@contextmanager
def put_in(mutation: Mutation) -> Iterator[Path]:
    """Put a mutation into a copy of the product, with its tests, and return where that is."""
    with tempfile.TemporaryDirectory(prefix="cni-reaper-mutation-") as name:
        copy = Path(name)
        shutil.copytree(ROOT / PACKAGE, copy / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / PACKAGE / mutation.file
        text = file.read_text()
        if not fits(mutation):
            message = f"the mutation {mutation.name!r} does not fit {mutation.file} any more"
            raise LookupError(message)
        file.write_text(text.replace(mutation.before, mutation.after))
        yield copy


def run(mutation: Mutation, number: int, steps: int = STEPS, patience: int = PATIENCE) -> Caught:
    """Put a mutation into a copy of the product and see who catches it: the model, then the unit tests, then a longer walk."""
    with put_in(mutation) as copy:
        return (
            _by_the_model(mutation, copy, steps, number)
            or _by_the_unit_tests(mutation, copy)
            or _by_the_model(mutation, copy, steps * patience, number + 1)
            or Caught(mutation, "", f"{steps * patience} steps and the unit tests find nothing")
        )


def run_small(mutation: Mutation, minutes: float, depth: int = 99) -> Caught:
    """Explore the small world with a mutation in the product, so long and so deep, but for the mixing in every order."""
    with put_in(mutation) as copy:
        ran = _in(copy, "tests.prove.small_world", f"--minutes={minutes}", f"--depth={depth}", "--orders=2")
        if not ran.returncode:
            return Caught(mutation, "", ran.stdout.strip().partition("\n")[0])
        broken = [line for line in ran.stdout.splitlines() if "BROKEN: " in line]
        said = broken[0] if broken else ran.stderr.strip().rpartition("\n")[2][:160]
        is_promise = bool(broken) and DEFECT.partition(",")[0] not in said
        return Caught(mutation, "small world" if is_promise else "small world (crash)", said)


def _in(copy: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a copy of the product."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    return subprocess.run([sys.executable, "-m", *argv], cwd=copy, env=environment, capture_output=True, text=True, check=False)


def _by_the_model(mutation: Mutation, copy: Path, steps: int, number: int) -> Caught | None:
    ran = _in(copy, "tests.prove.model", str(steps), str(number))
    if not ran.returncode:
        return None
    said = (ran.stdout.strip() or ran.stderr.strip().rpartition("\n")[2])[:160]
    return Caught(mutation, "model" if ran.stdout.startswith("seed") else "model (crash)", said)


def _by_the_unit_tests(mutation: Mutation, copy: Path) -> Caught | None:
    ran = _in(copy, "pytest", "-q", "-x", "-p", "no:cacheprovider", *UNIT_TESTS)
    if ran.returncode != 1:
        return None
    failed = [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]
    return Caught(mutation, "unit tests", failed[0][7:160] if failed else "")
