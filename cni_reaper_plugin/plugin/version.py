"""VERSION: which versions of the protocol are spoken. It knows no network, and reads nothing of the node."""

import fcntl
import posix

import orjson

from cni_reaper_plugin.cni_versions import LATEST_VERSION, SUPPORTED_VERSIONS
from cni_reaper_plugin.event_log import DEFECT
from cni_reaper_plugin.plugin.errors import INTERNAL, CNIError

STDIN_WAIT_MS = 100  # VERSION needs nothing from stdin, so an open and silent one must not hold it up
_FIONREAD = 0x541B  # ioctl_tty(2)


def answer() -> tuple[int, bytes]:
    """Return the exit code and what is said: a valid cniVersion from stdin where one is waiting, else the newest. Never fails."""
    try:
        return 0, orjson.dumps({"cniVersion": _asked(), "supportedVersions": SUPPORTED_VERSIONS})
    except Exception as e:  # noqa: BLE001  a traceback is nothing that a runtime can read
        return 1, orjson.dumps(CNIError(INTERNAL, DEFECT % e).as_object(LATEST_VERSION))


def _asked() -> str:
    """Return the version that the answer has."""
    try:
        config = orjson.loads(_waiting_stdin())
    except (OSError, orjson.JSONDecodeError):
        return LATEST_VERSION
    told = config.get("cniVersion") if isinstance(config, dict) else None
    return told if told in SUPPORTED_VERSIONS else LATEST_VERSION


def _waiting_stdin() -> bytes:
    """Return what stdin has for us, b"" when nothing comes within STDIN_WAIT_MS. Raises OSError."""
    try:
        waiting = any(fcntl.ioctl(0, _FIONREAD, b"\0" * 4))
    except OSError:
        waiting = False  # neither pipe, file nor terminal: /dev/null, or what can be silent for ever, an eventfd
    if not waiting:
        import select  # only a stdin that is late pays for it

        poll = select.poll()
        poll.register(0, select.POLLIN)
        if not poll.poll(STDIN_WAIT_MS):
            return b""
    return posix.read(0, 1 << 16)
