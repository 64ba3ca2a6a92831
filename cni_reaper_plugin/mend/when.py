"""When a call of the runtime looks for broken files: see `after`."""

from cni_reaper_plugin.events import Log
from cni_reaper_plugin.facts import Call, Settings


def after(call: Call, settings: Settings, log: Log, *, freed: bool, first_of_boot: bool) -> None:
    """Look for broken files at the end of a call, if it is time. Raises nothing.

    freed: the call's sweep has freed something; first_of_boot: it is an ADD, and no ADD of this boot has proven its view.
    """
