"""A sweep before the first ADD of a boot: it frees what needs no pod to be proven dead. From the first ADD on each ADD frees all.

Only in the initial PID namespace and in PID 1's mount namespace, where every process of the node is seen, and with the
capabilities to look into its network namespaces: an empty reservation names no owner, and that its address is in no namespace is
all that tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.host_local.pool import PoolError
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import NEEDS_NO_POD, Call
from cni_reaper_plugin.network_sweep import Result
from cni_reaper_plugin.operator.scope import Scope, Target
from cni_reaper_plugin.reaper import sweep
from cni_reaper_plugin.system import boot, files
from cni_reaper_plugin.system.clock import Budget

_SYS_PTRACE, _SYS_ADMIN = 1 << 19, 1 << 21

if TYPE_CHECKING:
    Freed = tuple[str, str, str]
    """Network, address, reason."""


class _Quiet(Log):
    """A log that says at debug who is kept: owners whom nobody knows are not remembered yet, and it would be said each minute."""

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        super()._write("debug" if event == "kept" and level == "info" else level, event, fields)


def free(conf_dirs: list[str], *, dry_run: bool) -> tuple[list[Freed], list[str]]:
    """Free the reservations of containers that a reboot has ended, and empty ones, of networks with an entry of ours.

    conf_dirs: where conflists are, [] for where the runtimes of this node look. Returns what was freed, or would be, and what
    went wrong. Nothing where an ADD of this boot has come, or not all can be seen.
    """
    freed: list[Freed] = []
    problems: list[str] = []
    try:
        view = proven_views.own_view()
        if proven_views.allowance(boot.boot_id(), view) is not NEEDS_NO_POD or not _sees_all():
            return freed, problems
        targets = [target for target in Scope([], "", "", [], conf_dirs).targets() if target.state_dirs]
    except (OSError, ValueError, IndexError, PoolError):
        return freed, problems  # what cannot be told frees nothing
    for target in targets:
        if target.problems:
            continue  # they are said with the files
        target.settings.dry_run |= dry_run
        for result in _sweep(target, view):
            done = (*result.freed, *result.would_free.values())
            freed += [(result.network, one.reservation.address, one.reason.code) for one in done]
            problems += [f"network {result.network}: {why}" for why in (result.skipped, result.failed) if why]
            problems += [f"{one.address} of network {result.network}: {error}" for one, error in result.refused]
    return freed, problems


def _sweep(target: Target, view: list[int]) -> list[Result]:
    settings = target.settings
    settings.networks = [target.network]
    call = Call(sweep.PERSON)
    call.view, call.may_reap = view, NEEDS_NO_POD
    budget = Budget(sweep.WALL_LIMIT_S, settings.budget_ms)
    return sweep.run(call, settings, _Quiet(settings.log_level, settings.log_file), lambda: None, budget)


def _sees_all() -> bool:
    """Tell whether this process may look into every process and every network namespace. Raises OSError, ValueError."""
    effective = int(files.read("/proc/self/status").partition(b"CapEff:")[2].split()[0], 16)
    return not ~effective & (_SYS_PTRACE | _SYS_ADMIN)
