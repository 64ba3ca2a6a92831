"""The sweep of one network: what each part of it is handed, and what came of it.

reaper.sweep makes one for each network of a call, quick scan and reap_network work with it, metrics and commands read its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_reaper_plugin.event_log import Log
    from cni_reaper_plugin.host_local.store import Network
    from cni_reaper_plugin.model import Call, Judged, Reservation
    from cni_reaper_plugin.options import Settings
    from cni_reaper_plugin.system.clock import Budget

CLEAN = "clean"
REAPED = "reaped"
CUT = "cut"
SKIPPED = "skipped"
FAILED = "failed"
OUTCOMES = (CLEAN, REAPED, CUT, SKIPPED, FAILED)
"""How a sweep can end; where several apply, the last of them."""


class Result:
    """What the sweep of one network has done and found. It grows while the sweep goes on.

    What a quick scan and a full scan may both find is by address, so that it counts once.

    Attributes:
        network: its name; "*" where the networks could not even be listed.
        listed: how many reservations there were, None where that is not known.
        freed: what was freed.
        would_free: what would have been freed but for dryRun, by address.
        refused: what was to be freed and could not be unlinked, with the error.
        kept: owners that are UNKNOWN, by address.
        published: what is STALE and stays, since something outside of the pod leads to it (PORT_PUBLISHED), by address.
        lifeless: how many addresses netns without a process hold; None where that was not counted.
        judged: the verdicts are all there are: whatever was stale could be freed by this call.
        cut: why it ended before its end, "" where it did not.
        skipped: why it was not begun, "" where it was.
        failed: why it failed, "" where it did not.
        took_s: wall time in seconds; None where it was not begun, or is not measured.
    """

    __slots__ = (
        "cut",
        "failed",
        "freed",
        "judged",
        "kept",
        "lifeless",
        "listed",
        "network",
        "published",
        "refused",
        "skipped",
        "took_s",
        "would_free",
    )

    def __init__(self, network: str) -> None:
        self.network = network
        self.listed: int | None = None
        self.freed: list[Judged] = []
        self.would_free: dict[str, Judged] = {}
        self.refused: list[tuple[Reservation, OSError]] = []
        self.kept: dict[str, Judged] = {}
        self.published: dict[str, Judged] = {}
        self.lifeless: int | None = None
        self.judged = False
        self.cut = ""
        self.skipped = ""
        self.failed = ""
        self.took_s: float | None = None

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        if self.failed:
            return FAILED
        if self.skipped:
            return SKIPPED
        if self.cut:
            return CUT
        return REAPED if self.freed else CLEAN


class NetworkSweep:
    """One sweep.

    Attributes:
        network: the network's directory in the store.
        call: of the runtime or of a person, that the sweep is part of.
        settings: the options.
        budget: of time, for the whole call.
        log: for its events.
        result: what has come of it so far.
    """

    __slots__ = ("budget", "call", "log", "network", "result", "settings")

    def __init__(
        self, network: Network, call: Call, settings: Settings, budget: Budget, log: Log, result: Result | None = None
    ) -> None:
        self.network = network
        self.call = call
        self.settings = settings
        self.budget = budget
        self.log = log
        self.result = result or Result(network.name)
