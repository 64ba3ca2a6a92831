"""The DEL of a pod whose ADD has failed before it came to us proves the view as an ADD does, on a node where none has yet.

Where we are second in a chain, last, or a drop-in, and every address is taken, no ADD reaches us: the plugin that asks host-local
fails before. The runtime then sends DEL while the pod's netns still stands.
"""

from cni_reaper_plugin.event_log import Log
from cni_reaper_plugin.memory import proven_views
from cni_reaper_plugin.model import ALL, Call
from cni_reaper_plugin.namespaces import visible


def look(call: Call, boot_id: str, log: Log) -> None:
    """Let all be reaped if the netns of this DEL shows that its view is the runtime's. Raises nothing."""
    if call.netns is None:
        return
    try:
        if not proven_views.may_show(boot_id, call.view) or not visible.shows_all(call.netns_path, call.netns):
            return
        proven_views.prove(boot_id, call.view, "shown")
        call.shows, call.may_reap = True, ALL
    except OSError as e:
        log.debug("view-not-noted", reason=str(e))
