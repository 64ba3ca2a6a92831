"""What a person is told of each reason of judge.py: where docs/evidence.md has the rule, and what would change the verdict."""

from dataclasses import dataclass

from cni_reaper_plugin.facts import EMPTY, NETNS_GONE, NETNS_THERE, NO_NETNS_LEFT, REBOOTED, UNCLAIMED
from cni_reaper_plugin.other_nodes import OTHER_NODE, SHARED_STORE

_ENDS = "the container's end: once its netns is gone, the next ADD frees the address"
_FREED = "nothing short of the owner's return: the next ADD on this network frees it, `cni-reaper reap` does now"
_UNREADABLE = "the source can be read again: see `trouble` and `there now`"


@dataclass(frozen=True)
class Rule:
    """where: a row or a guard of docs/evidence.md; change: what would change the verdict."""

    where: str
    change: str


_RULES = {
    REBOOTED: Rule("row 2", _FREED),
    NETNS_THERE: Rule("row 3", _ENDS),
    NETNS_GONE: Rule("row 4 or 5", _FREED),
    "netns visible elsewhere": Rule("row 2 or 5", _ENDS),
    EMPTY: Rule("row 7", _FREED),
    "sibling has a netns": Rule("the row between 7 and 8", "the end of the container's other attachments"),
    "sibling's address in use": Rule("the row between 7 and 8", "no netns has the other address of this container any more"),
    NO_NETNS_LEFT: Rule("row 8", _FREED),
    UNCLAIMED: Rule("row 9", _FREED),
    "address in use": Rule("the last guard", "no netns on this node has the address any more"),
    "netns cannot be looked into": Rule("the named guard, or row 5", "the end of the netns that cannot be looked into"),
    "named by the runtime": Rule("the named guard", "no cgroup and no task directory names the container any more"),
    "netns path cannot be read": Rule("the row between 1 and 2", _UNREADABLE),
    "netns path of a sibling cannot be read": Rule("the row between 7 and 8", _UNREADABLE),
    "name is no address": Rule(
        "the last guard", "nothing: host-local does not spell an address so; look at the file and remove it by hand"
    ),
    OTHER_NODE: Rule("shared stores", "a DEL on the node that has recorded it; or the next boot"),
    SHARED_STORE: Rule("shared stores", "a DEL on its own node; or a dataDir that this node alone uses"),
    "content is no owner": Rule("row 11", "nothing by itself: look at the file; `cni-reaper reap --force` frees it"),
    "no runtime's ID": Rule("row 11", "nothing by itself: a note of a person's; `cni-reaper reap --force` frees it"),
}
_UNACCOUNTED = Rule(
    "row 9: it is waited for",
    "the netns that may be its own are gone, or known as others'; or graceSeconds after a sweep first saw it; then STALE",
)
REASONS = frozenset(_RULES)


def rule(reason: str, trouble: str) -> Rule:
    """Return the rule behind a reason of the judge. trouble: of the evidence, "" when all was read."""
    if trouble:
        return Rule("the row between 1 and 2", _UNREADABLE)
    return _RULES.get(reason, _UNACCOUNTED)
