"""What happened, one `key=value` line an event: to syslog (/dev/log, ident cni-reaper) and to `logFile`.

Nothing is said on stdout, which is the protocol's, nor on stderr. An event that cannot be written is lost: it never fails or
delays the call. The sockets and clocks are imported with the first event, since most calls have none.
"""

import posix

LEVELS = ("error", "warning", "info", "debug")
_PRIORITIES = {"error": 27, "warning": 28, "info": 30, "debug": 31}  # facility daemon, syslog(3)
_SYSLOG = "/dev/log"

DEFECT = "a defect of cni-reaper, please report it; or its executable is damaged: %r"
"""What is said of an exception that nobody has thought of. An ImportError is a module that is not what it was."""


class Log:
    """Writes events down to a level.

    level: one of LEVELS; log_file: an absolute path or "", opened for each line with O_APPEND, so that it can be rotated.
    """

    __slots__ = ("_log_file", "_threshold")

    def __init__(self, level: str, log_file: str) -> None:
        self._threshold = LEVELS.index(level)
        self._log_file = log_file

    def error(self, event: str, **fields: object) -> None:
        """Write an event of level `error`; fields are written as key=value in their order, None and "" are left out."""
        self._write("error", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write an event of level `warning`, see `error`."""
        self._write("warning", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Write an event of level `info`, see `error`."""
        self._write("info", event, fields)

    def debug(self, event: str, **fields: object) -> None:
        """Write an event of level `debug`, see `error`."""
        self._write("debug", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        if LEVELS.index(level) > self._threshold:
            return
        line = "level=%s event=%s" % (level, event)
        for key, value in fields.items():
            if value is not None and value != "":
                line += " %s=%s" % (key, _quoted(str(value)))
        _to_syslog(_PRIORITIES[level], line)
        if self._log_file:
            _append(self._log_file, line)


def _quoted(value: str) -> str:
    """Quote a value that holds more than plain characters; nothing unprintable gets into a line."""
    text = "".join(c if c.isprintable() else "\\x%02x" % ord(c) for c in value.replace("\\", "\\\\").replace('"', '\\"'))
    return text if text == value and text and not any(c in " =" for c in text) else '"%s"' % text


def _to_syslog(priority: int, line: str) -> None:
    try:
        import _socket

        log = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            log.sendto(("<%d>cni-reaper[%d]: %s" % (priority, posix.getpid(), line)).encode("utf-8", "replace"), _SYSLOG)
        finally:
            log.close()
    except (OSError, ImportError):
        return  # no syslog on this node, or it is full; or a damaged executable, which is no reason to fail a pod either


def _append(path: str, line: str) -> None:
    import time

    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%03dZ" % (now % 1 * 1000)
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NONBLOCK
    try:
        fd = posix.open(path, flags, 0o640)
        try:
            posix.write(
                fd, ("%s %s\n" % (stamp, line)).encode("utf-8", "replace")
            )  # one write: lines of many processes stay whole
        finally:
            posix.close(fd)
    except OSError:
        return  # /dev/log has it
