"""Why an address is freed or kept: each reason has a code, by which everybody knows it, and a text for people.

Codes stand in the log, in the metrics and in JSON, and never change their meaning. Texts may change. docs/evidence.md names the
row behind each.
"""


class Reason:
    """One reason. Two are the same if their codes are.

    code: lower case, with hyphens.
    text: a few words for people, from the code where nothing else is given.
    says_more: the text says more of one case than the code can.
    """

    __slots__ = ("code", "says_more", "text")

    def __init__(self, code: str, text: str = "") -> None:
        self.code = code
        self.text = text or code.replace("-", " ")
        self.says_more = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reason) and other.code == self.code

    def __hash__(self) -> int:
        return hash(self.code)

    def __repr__(self) -> str:
        return "Reason(%r, %r)" % (self.code, self.text)

    def detailed(self, text: str) -> "Reason":
        """Return the same reason with a text that says more of one case."""
        reason = Reason(self.code, text)
        reason.says_more = True
        return reason


# STALE
REBOOTED = Reason("rebooted")
NETNS_GONE = Reason("netns-gone")
EMPTY = Reason("empty")
NO_NETNS_LEFT = Reason("no-netns-left")
UNCLAIMED = Reason("unclaimed")
NOT_LISTED = Reason("not-in-gc-list", "not in GC list")
ADDED_AGAIN = Reason("added-again")
LEFT_BY_DEL = Reason("left-by-del", "left by DEL")
FORCED = Reason("forced")
"""By a person, over UNKNOWN."""
PORT_PUBLISHED = Reason("port-published", "a published port leads to it")
"""STALE, and kept: what leads to the address from outside of the pod could not be taken back."""

# LIVE by what every call sees at once
NETNS_THERE = Reason("netns-there")
"""The one reason to keep an address that can be noted for the next ADD."""
THIS_CALL = Reason("this-call")
CONTAINER_OF_THIS_CALL = Reason("container-of-this-call")
LISTED = Reason("in-gc-list", "in GC list")

# LIVE by a full scan, which evidence.proof can find again
ADDRESS_IN_USE = Reason("address-in-use")
NAMED = Reason("named-by-the-runtime")
NOT_LOOKED_INTO = Reason("netns-not-looked-into", "netns cannot be looked into")
SIBLING_ADDRESS_IN_USE = Reason("sibling-address-in-use", "sibling's address in use")
SIBLING_HAS_NETNS = Reason("sibling-has-netns", "sibling has a netns")
VISIBLE_ELSEWHERE = Reason("netns-elsewhere", "netns visible elsewhere")
PROVEN_BEFORE = Reason("proven-before")
"""Said instead of the reason itself while what a full scan has found a moment ago still stands."""

# UNKNOWN
UNACCOUNTED = Reason("netns-unaccounted", "netns unaccounted for")
"""A netns of nobody may be the owner's. It is waited for."""
OTHER_NODE = Reason("other-node", "recorded by another node")
SHARED_STORE = Reason("shared-store", "shared store, no record of this node")
UNREADABLE_EVIDENCE = Reason("evidence-unreadable", "evidence cannot be read")
UNREADABLE_NETNS = Reason("netns-path-unreadable", "netns path cannot be read")
UNREADABLE_SIBLING = Reason("sibling-netns-path-unreadable", "netns path of a sibling cannot be read")
NO_ADDRESS = Reason("no-address", "name is no address")
NO_OWNER = Reason("no-owner", "content is no owner")
NO_RUNTIME_ID = Reason("no-runtime-id", "no runtime's ID")
UNEXPECTED = Reason("unexpected")
