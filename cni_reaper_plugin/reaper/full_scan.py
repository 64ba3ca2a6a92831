"""A network judged on all facts: a look around the node, then one reservation after the other. Frees nothing.

The reservations are read before the look. Whoever frees what is STALE here asks once more, under host-local's lock: see reap.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

from cni_reaper_plugin.evidence import full_evidence
from cni_reaper_plugin.host_local import store
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.memory.waiting_owners import Memory
from cni_reaper_plugin.model import LIVE, UNKNOWN, Call, Evidence, Judged, Reservation, SkippedError, Surroundings
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.notices import said_once
from cni_reaper_plugin.reaper.decision import judge
from cni_reaper_plugin.reaper.quick_scan import SLICE
from cni_reaper_plugin.system import boot, files, network_file_system

TOLERABLE_LOOK_S = 2.0  # CPU time of a look around the node: that of half a million open files
PUT_OFF_S = 600
_PUT_OFF = "put-off"  # in RUN_DIR: seconds since boot
_ARRIVE_S = 0.03  # a few ADDs write their records in that time
_IDLE = 5  # so many times without anybody: on a node with many busy processes a call takes a while
AUDIT = "AUDIT"  # the verb of a person's look, which leaves nothing behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_reaper_plugin.options import Settings


class Judging:
    """The judging of a network's reservations, slice by slice, as far as the budget goes.

    surroundings: what was seen of the node.
    """

    def __init__(self, sweep: NetworkSweep, reservations: list[Reservation], untaken: list[str], memory: Memory) -> None:
        """Look around the node. Raises TimeoutError when that takes too long.

        reservations: the snapshot; untaken: addresses of the network that are not in it, whose owners can only account for
        netns. A look of AUDIT leaves nothing behind.
        """
        self._reservations = reservations
        self._complete = not untaken
        self._call = sweep.call
        self._budget = sweep.budget
        network, settings = sweep.network, sweep.settings

        def neighbours() -> list[Reservation]:
            """Return everybody else's reservations."""
            return network.snapshot(untaken) + _neighbours(network.name, settings)

        began = posix.times()
        try:
            self._look = full_evidence.Look(sweep, reservations, memory, neighbours)
        finally:
            now = posix.times()  # CPU time: on a machine that is merely busy the next look may be quicker
            if self._call.verb != AUDIT and now.user + now.system - began.user - began.system > TOLERABLE_LOOK_S:
                _put_off_looks()
        self.surroundings: Surroundings = self._look.surroundings
        self.surroundings.node = boot.node()
        self.surroundings.shared = network_file_system.name("%s/%s" % (settings.data_dir, network.name))

    def parts(self) -> Iterator[list[Judged]]:
        """Judge slice by slice, in the snapshot's order. Raises OSError, and SkippedError when something cannot be seen."""
        for start in range(0, len(self._reservations), SLICE):
            part = self._reservations[start : start + SLICE]
            gathered = self._look.gather(part)
            if self.surroundings.trouble:
                raise SkippedError(self.surroundings.trouble)
            if not start:
                self._budget.next_sweep()  # what all owners have in common is gathered, and would have to be at the next call
            yield _judge(list(zip(part, gathered, strict=True)))
            if self._budget.spent(share=0.9):
                return

    def all(self, others_wait: Callable[[], bool] = lambda: False) -> list[Judged]:
        """Judge them all, and for GC once more, if its list names everybody who is LIVE. Raises as `parts`.

        others_wait: tells whether other calls wait for this one; then pods may be starting that each keep somebody.
        """
        judged = [one for part in self.parts() for one in part]
        if others_wait():
            judged = self._with_who_arrives(judged, others_wait)
        if self._call.valid is None or not self._complete or len(judged) < len(self._reservations):
            return judged
        self.surroundings.list_complete = not any(one.verdict == LIVE and self._call.misses(one.reservation) for one in judged)
        return _judge_again(judged)

    def _with_who_arrives(self, judged: list[Judged], others_wait: Callable[[], bool]) -> list[Judged]:
        """Judge again while the netns that keep somebody become others', one after the other; return what is known then.

        In a storm a hundred pods have a netns already while their ADDs are on the way here, and each keeps every leak that no
        record maps. They need not be waited for where nothing gets on.
        """
        if not _is_waited_for(judged):
            return judged
        import time

        idle = 0
        while idle < _IDLE and others_wait() and not self._budget.spent(share=0.9):
            time.sleep(_ARRIVE_S)
            arrived = self._look.account_again()
            idle = 0 if arrived else idle + 1
            if arrived:
                judged = _judge_again(judged)
                if not _is_waited_for(judged):
                    break
        return judged


def _judge(pairs: list[tuple[Reservation, Evidence]]) -> list[Judged]:
    return [Judged(reservation, evidence, *judge(reservation, evidence)) for reservation, evidence in pairs]


def _judge_again(judged: list[Judged]) -> list[Judged]:
    return _judge([(one.reservation, one.evidence) for one in judged])


def _is_waited_for(judged: list[Judged]) -> bool:
    """Tell whether somebody is UNKNOWN who may be STALE once it is known whose the netns are."""
    return any(one.verdict == UNKNOWN and one.evidence.suspect for one in judged)


def is_put_off(call: Call) -> bool:
    """Tell whether an ADD is to leave looking around to DEL and GC, since that took too long not long ago."""
    if call.verb != "ADD":
        return False
    try:
        ago_s = boot.boottime_s() - float(files.read("%s/%s" % (proven_views.RUN_DIR, _PUT_OFF), limit=64))
    except (OSError, ValueError):
        return False
    return 0 <= ago_s < PUT_OFF_S


def _put_off_looks() -> None:
    """Note it; where /run cannot be written the next ADD looks again."""
    try:
        said_once.note(_PUT_OFF, int(boot.boottime_s()))
    except OSError:
        return


def _neighbours(network: str, settings: Settings) -> list[Reservation]:
    """Return the reservations of the other networks in the store. Raises OSError."""
    found = []
    for other in store.networks(settings.data_dir):
        if other != network:
            try:
                directory = store.Network(settings.data_dir, other)
            except FileNotFoundError:
                continue
            with directory:
                found += directory.snapshot(directory.addresses())
    return found
