"""What the doctor finds: one thing about one subject, what to do about it, and how grave it is."""

from typing import NamedTuple

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"
LEVELS = (OK, NOTE, WARNING, ERROR)

KEYS = {
    # conflists
    "no-conflist": ERROR,
    "config-unreadable": WARNING,
    "unreadable": ERROR,
    "unreadable-unused": WARNING,
    "in-place": OK,
    "not-in-chain": ERROR,
    "only-in-unused": ERROR,
    "not-in-unused": NOTE,
    "twice": WARNING,
    "not-first": WARNING,
    "must-be-second": ERROR,
    "bad-options": ERROR,
    "dry-run": NOTE,
    "same-store": OK,
    "data-dir-differs": ERROR,
    "network-left-out": ERROR,
    "not-host-local": NOTE,
    "single-plugin": ERROR,
    "drop-in": NOTE,
    "drop-in-ours": WARNING,
    "version-unknown": ERROR,
    "version-old": WARNING,
    "rewritten": NOTE,
    "multus-copy": NOTE,
    "multus-behind": WARNING,
    "multus-edited": WARNING,
    "multus-master": WARNING,
    "multus-thick": NOTE,
    "cilium": NOTE,
    "cilium-renames": WARNING,
    # executables
    "executable": OK,
    "executable-missing": ERROR,
    "not-executable": ERROR,
    "noexec": ERROR,
    "other-architecture": ERROR,
    "executable-intact": OK,
    "executable-damaged": ERROR,
    "executable-no-sum": NOTE,
    "link-leaves": NOTE,
    "plugin-missing": ERROR,
    # the node
    "not-root": WARNING,
    "writable": OK,
    "not-writable": ERROR,
    "store-unreadable": ERROR,
    "store-in-memory": NOTE,
    "store-shared": ERROR,
    "records-shared": ERROR,
    "store-elsewhere": WARNING,
    "syslog": OK,
    "no-syslog": NOTE,
    "nobody-told": WARNING,
    "log-file": WARNING,
    "metrics-file": WARNING,
    "view-proven": OK,
    "view-not-yet": NOTE,
    "view-unproven": WARNING,
    "view-other": WARNING,
    "view-unreadable": WARNING,
    "blind": ERROR,
    "runtime-elsewhere": WARNING,
    "strict-snap": WARNING,
    "rootless": NOTE,
    "hidepid": WARNING,
    "lifeless": NOTE,
    "cache-whole": OK,
    "cache-broken": WARNING,
    "cache-broken-stays": WARNING,
    "cache-unreadable": WARNING,
    "published-to-another": ERROR,
    "published-to-none": WARNING,
    "published-unseen": NOTE,
}
"""Every finding there is, and its level; docs/doctor.md has a row for each."""


class Finding(NamedTuple):
    """key: of KEYS; subject: a file or directory, or `node`; finding: what is; advice: what to do, "" for nothing."""

    key: str
    subject: str
    finding: str
    advice: str = ""

    @property
    def level(self) -> str:
        """How grave it is, of LEVELS."""
        return KEYS[self.key]
