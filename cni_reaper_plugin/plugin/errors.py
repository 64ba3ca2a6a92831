"""The one error type of the protocol and its codes. Source: SPEC 1.1.0 section 5, Error; cni.md for what the SPEC leaves out.

No message says "not found" or "no such file": containerd's go-cni takes those words for "already gone" and forgets the rest
of the chain.
"""

INCOMPATIBLE_VERSION = 1
BAD_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8  # not in the SPEC's table; skel since v1.2.0
UNAVAILABLE = 50
FOREIGN_RESERVATION = 100
NO_RESERVATION = 101
INTERNAL = 999


class CNIError(Exception):
    """An error for the runtime. code: see above; msg: one sentence that says what to do; details: more of it, or ""."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def as_object(self, cni_version: str) -> dict[str, object]:
        """Return the error object of the SPEC; a text that is not Unicode is made so."""
        error: dict[str, object] = {"cniVersion": cni_version, "code": self.code, "msg": _unicode(self.msg)}
        if self.details:
            error["details"] = _unicode(self.details)
        return error


def _unicode(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
