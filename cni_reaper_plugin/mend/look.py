"""One look at all places: which files are broken, which of them may be removed, and removes these."""

from cni_reaper_plugin.clock import Budget
from cni_reaper_plugin.events import Log
from cni_reaper_plugin.mend.broken import Broken
from cni_reaper_plugin.mend.places import Place

OLD_S = 30
"""For how long nothing may have been written to a broken file before it is removed."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Result:
    """What a look has found.

    removed: broken files that are gone, or with dry_run would be; waiting: those that have changed less than OLD_S ago, or that
    a process may be writing, with `reason` and `wait_s`; kept: those that could not be removed, with `reason`; trouble: what
    could not be read, in words; checked: how many files were read; is_whole: False where time was up, or another process is
    looking.
    """

    __slots__ = ("checked", "is_whole", "kept", "removed", "trouble", "waiting")

    def __init__(self) -> None:
        self.removed: list[Broken] = []
        self.waiting: list[Broken] = []
        self.kept: list[Broken] = []
        self.trouble: list[str] = []
        self.checked = 0
        self.is_whole = True


def look(
    places: "Iterable[Place]",
    log: Log,
    *,
    dry_run: bool,
    budget: Budget | None = None,
    networks: "Iterable[str]" = (),
    lock_wait_s: float = 0.0,
) -> Result:
    """Look at all places once; remove what is broken and was not written to for OLD_S. Raises nothing.

    dry_run: remove nothing, say what would be; budget: of the whole look, none means no limit; networks: names that are known,
    see Place.named; lock_wait_s: for how long to wait while another process looks.
    """
    raise NotImplementedError
