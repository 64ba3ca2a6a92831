"""What a person is told of each reason of decision.py: where docs/evidence.md has the rule, and what would change the verdict."""

from dataclasses import dataclass

from cni_reaper_plugin.reasons import (
    ADDRESS_IN_USE,
    EMPTY,
    NAMED,
    NETNS_GONE,
    NETNS_THERE,
    NO_ADDRESS,
    NO_NETNS_LEFT,
    NO_OWNER,
    NO_RUNTIME_ID,
    NOT_LOOKED_INTO,
    OTHER_NODE,
    REBOOTED,
    SHARED_STORE,
    SIBLING_ADDRESS_IN_USE,
    SIBLING_HAS_NETNS,
    UNACCOUNTED,
    UNCLAIMED,
    UNEXPECTED,
    UNREADABLE_EVIDENCE,
    UNREADABLE_NETNS,
    UNREADABLE_SIBLING,
    VISIBLE_ELSEWHERE,
    Reason,
)

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
    VISIBLE_ELSEWHERE: Rule("row 2 or 5", _ENDS),
    EMPTY: Rule("row 7", _FREED),
    SIBLING_HAS_NETNS: Rule("the row between 7 and 8", "the end of the container's other attachments"),
    SIBLING_ADDRESS_IN_USE: Rule("the row between 7 and 8", "no netns has the other address of this container any more"),
    NO_NETNS_LEFT: Rule("row 8", _FREED),
    UNCLAIMED: Rule("row 9", _FREED),
    ADDRESS_IN_USE: Rule("the last guard", "no netns on this node has the address any more"),
    NOT_LOOKED_INTO: Rule("the named guard, or row 5", "the end of the netns that cannot be looked into"),
    NAMED: Rule("the named guard", "no cgroup and no task directory names the container any more"),
    UNREADABLE_NETNS: Rule("the row between 1 and 2", _UNREADABLE),
    UNREADABLE_SIBLING: Rule("the row between 7 and 8", _UNREADABLE),
    NO_ADDRESS: Rule(
        "the last guard", "nothing: host-local does not spell an address so; look at the file and remove it by hand"
    ),
    OTHER_NODE: Rule("shared stores", "a DEL on the node that has recorded it; or the next boot"),
    SHARED_STORE: Rule("shared stores", "a DEL on its own node; or a dataDir that this node alone uses"),
    NO_OWNER: Rule("row 11", "nothing by itself: look at the file; `cni-reaper reap --force` frees it"),
    NO_RUNTIME_ID: Rule("row 11", "nothing by itself: a note of a person's; `cni-reaper reap --force` frees it"),
    UNEXPECTED: Rule("no row", "nothing by itself: please report it, with this text"),
    UNREADABLE_EVIDENCE: Rule("the row between 1 and 2", _UNREADABLE),
    UNACCOUNTED: Rule(
        "row 9: it is waited for",
        "the netns that may be its own are gone, or known as others'; or graceSeconds after a sweep first saw it; then STALE",
    ),
}
"""By every reason that a look can give which is part of no call."""
REASONS = frozenset(_RULES)


def rule(reason: Reason) -> Rule:
    """Return the rule behind a reason of REASONS."""
    return _RULES[reason]
