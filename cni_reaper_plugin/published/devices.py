"""Take away what a dead container leaves that leads nowhere and only piles up: the device of the bandwidth plugin.

By the plugin's own DEL, which goes by network and container ID, never by address. Only where nobody waits (GC, and `reap` by a
person), before the address is freed, and for a few seconds of a call. That it cannot be done keeps no address.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING

import orjson

from cni_reaper_plugin.evidence import records
from cni_reaper_plugin.model import Judged
from cni_reaper_plugin.network_sweep import NetworkSweep
from cni_reaper_plugin.published import deletion, entries
from cni_reaper_plugin.system import programs

BANDWIDTH = "bandwidth"
VERBS = ("GC", "REAP")
"""Of calls for which nobody waits."""
IN_ALL_S = 5.0
PROGRAM_S = 2.0
RESERVE_S = 4.0  # of the call's wall time: for the removal itself

if TYPE_CHECKING:
    from collections.abc import Callable


def take_away(sweep: NetworkSweep, free: list[Judged], still_judged: Callable[[Judged], bool]) -> None:
    """Run the DEL of bandwidth for these owners, as far as IN_ALL_S goes; the first that fails is the last. Raises nothing.

    free: about to be freed, what they have published is taken back; still_judged: see withdraw.take_back.
    """
    if sweep.call.verb not in VERBS:
        return
    end_s = posix.times().elapsed + IN_ALL_S
    seen = set()
    for one in free:
        reservation = one.reservation
        owner = reservation.container_id, reservation.ifname
        if not deletion.is_wanted(one) or not reservation.ifname or owner in seen:
            continue
        seen.add(owner)
        left_s = min(sweep.budget.wall_left_s() - RESERVE_S, end_s - posix.times().elapsed)
        if left_s <= 0:
            return
        try:
            why = _delete(sweep, one, still_judged, min(PROGRAM_S, left_s))
        except (OSError, ValueError) as e:
            why = str(e)
        if why:
            sweep.log.debug("device-left", network=sweep.network.name, container=owner[0], reason=why)
            return


def _delete(sweep: NetworkSweep, judged: Judged, still_judged: Callable[[Judged], bool], wait_s: float) -> str:
    """Run it for one owner; return why it did not end well, "" where it did or is not to be run. Raises OSError, ValueError."""
    network, reservation = sweep.network.name, judged.reservation
    container_id, ifname = reservation.container_id, reservation.ifname
    configs, args = entries.chained(sweep.settings.cache_dirs, network, container_id, ifname, BANDWIDTH)
    if not any(map(_has_device, configs)) or _has_another(sweep, container_id, ifname) or not still_judged(judged):
        return ""
    given = sweep.call.environment
    plugin_dirs = deletion.directories(given, b"CNI_PATH")
    plugin = programs.find(BANDWIDTH, plugin_dirs)
    if plugin is None:
        return "bandwidth is not in CNI_PATH"
    environment = deletion.environment_of(given, container_id, ifname, args, plugin_dirs)
    ended = programs.run([plugin], environment, wait_s, orjson.dumps(configs[0]))
    return ended.trouble or ("exit code %s" % ended.code if ended.code else "")


def _has_device(config: entries.Config) -> bool:
    """Tell whether it limits something: most lists have the plugin, and few pods a limit."""
    runtime = config.get("runtimeConfig")
    given = runtime.get(BANDWIDTH) if isinstance(runtime, dict) else None
    return bool(given or config.get("ingressRate") or config.get("egressRate"))


def _has_another(sweep: NetworkSweep, container_id: str, ifname: str) -> bool:
    """Tell whether the container has another attachment to the network: the device would be its own, too. Raises OSError."""
    try:
        with records.Directory(sweep.settings.state_dir, sweep.network.name) as directory:
            return any(one[0] == container_id and one[1] != ifname for one in directory.names())
    except FileNotFoundError:
        return False
