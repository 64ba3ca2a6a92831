"""May an owner be a pod of another node, whose network namespaces are not seen from here? Asked before something is called stale.

A node is known by its machine ID and its host name. Neither is a proof alone: images are copied with their machine ID, a node
can be renamed, `localhost` is a name of many. A record of version 0.1.0 names no node, (None, None).
"""

from cni_reaper_plugin.model import Evidence
from cni_reaper_plugin.reasons import ADDED_AGAIN, OTHER_NODE, SHARED_STORE, Reason

Node = tuple[object, object]


def is_another(theirs: Node, ours: Node) -> bool:
    """Tell whether a record was written on another node: by its machine ID, or by its name where one of them has no ID."""
    if theirs[0] and ours[0]:
        return theirs[0] != ours[0]
    return bool(theirs[1]) and theirs[1] != ours[1]


def is_this(theirs: Node, ours: Node, is_same_boot: bool) -> bool:
    """Tell whether a record was written on this node: by ID and name. Two without an ID may have one name, but not one kernel."""
    return theirs == ours and (theirs[0] != "" or is_same_boot)


def may_own(evidence: Evidence, reason: Reason, is_by_record: bool) -> Reason | None:
    """Return why the owner may be a pod of another node, None where it cannot.

    reason: for which it is about to be called stale; is_by_record: by a row that a record proves. A record of another node and
    this boot is one of another container node of this kernel. One of another boot and on a local file system is of this disk's
    earlier life. In a store that other nodes use, only a record of this node proves death.
    """
    surroundings = evidence.surroundings
    proof = evidence.call.older if reason == ADDED_AGAIN else evidence.mapping
    if proof is None:
        return SHARED_STORE if surroundings.shared else None
    is_same_boot = proof.boot_id == surroundings.boot_id
    if is_same_boot and is_another(proof.node, surroundings.node):
        return OTHER_NODE
    if not surroundings.shared:
        return None
    is_recorded = is_by_record and (reason == ADDED_AGAIN or evidence.record != b"")
    return None if is_recorded and is_this(proof.node, surroundings.node, is_same_boot) else SHARED_STORE
