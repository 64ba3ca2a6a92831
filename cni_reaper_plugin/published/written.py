"""What portmap has written into the kernel's rules: which containers its comments name. A look, without a change.

Two backends. iptables: in table `nat`, chain CNI-HOSTPORT-DNAT, a rule whose comment is `dnat name: "<network>" id:
"<container>"`, cut at 255 bytes. nftables: tables `ip cni_hostport` and `ip6 cni_hostport`, rules whose comment is the container
ID. No rule is understood beyond that, and none is changed by us.
Source: containernetworking/plugins plugins/meta/portmap (v1.9.1), and the comments of its v1.1.1, which are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin.system import files, programs

NO_TIME = "no time was left"
IPTABLES, NFTABLES = "iptables", "nftables"
"""The backends by their names in portmap's configuration."""
_BEFORE = {IPTABLES: b'--comment "', NFTABLES: b'comment "'}
_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_MOST_COMMENT = 255
_TABLE = "cni_hostport"

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_reaper_plugin.system.programs import Ended, Environment

    Run = Callable[[list[str], Environment], Ended | None]
    """Runs a program, None where there is no time left for it. Raises OSError when it cannot be started."""


class Written:
    """What was found. trouble: why something may be missing, "" where nothing is; is_hung: since a program did not end.

    texts: (backend, what its program said), for people: see `ports`. Nothing is decided by it.
    """

    __slots__ = ("_comments", "is_hung", "texts", "trouble")

    def __init__(self) -> None:
        self.trouble = ""
        self.is_hung = False
        self.texts: list[tuple[str, bytes]] = []
        self._comments: dict[str, set[str]] = {IPTABLES: set(), NFTABLES: set()}

    def add(self, backend: str, out: bytes) -> None:
        """Note what a backend's program said, and the comments of its rules."""
        self.texts.append((backend, out))
        self._comments[backend] |= {_unquoted(one) for one in out.split(_BEFORE[backend])[1:]}

    def backends(self, network: str, container_id: str) -> list[str]:
        """Return the backends whose rules name a container: iptables' in this network, nftables' in any."""
        named = {IPTABLES: comment(network, container_id), NFTABLES: container_id}
        return [backend for backend, name in named.items() if name in self._comments[backend]]


def comment(network: str, container_id: str) -> str:
    """Return the comment of a container's iptables rules."""
    text = 'dnat name: "%s" id: "%s"' % (network, container_id)
    return text if len(text) <= _MOST_COMMENT else text[:253] + "..."


def search_path(own: list[str], plugin_dirs: list[str]) -> list[str]:
    """Return where the programs are looked for: PATH's directories, `aux` below each plugin directory, and the system's.

    k3s has its own iptables in `aux`.
    """
    besides = (*(one + "/aux" for one in plugin_dirs), *_SYSTEM)
    return own + [one for one in besides if one not in own]


def look(path: list[str], environment: Environment, run: Run, is_persons: bool = False) -> Written:
    """Look once. A program that is not there has written nothing. The first trouble ends it, and is in the answer.

    path: the directories of PATH; is_persons: a look that makes the kernel load nothing. `-t nat` loads iptables' older half.
    """
    written = Written()
    try:
        for name in ("iptables", "ip6tables"):
            if not written.trouble:
                _look_at_iptables(name, path, environment, run, written, [] if is_persons else ["-t", "nat"])
        if not written.trouble:
            _look_at_nftables(path, environment, run, written)
    except OSError as e:
        written.trouble = "what is published cannot be seen: %s" % e
    return written


def _look_at_iptables(name: str, path: list[str], environment: Environment, run: Run, written: Written, table: list[str]) -> None:
    save, bare = programs.find(name + "-save", path), programs.find(name, path)
    if save is None and bare is None:
        return
    ended = run([save, *table] if save is not None else [str(bare), "-w", "-t", "nat", "-S"], environment)
    if ended is not None and ended.code and name == "ip6tables" and not _has_legacy_nat():
        return  # a kernel without IPv6's NAT: portmap takes that for nothing to do as well
    if _is_in_trouble(ended, name, written):
        return
    assert ended is not None
    written.add(IPTABLES, ended.out)


def _has_legacy_nat() -> bool:
    """Tell whether iptables' older half has IPv6's NAT in this netns; also where that cannot be told."""
    try:
        return b"nat" in files.read("/proc/self/net/ip6_tables_names").split()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _look_at_nftables(path: list[str], environment: Environment, run: Run, written: Written) -> None:
    nft = programs.find("nft", path)
    if nft is None:
        return
    tables = run([nft, "list", "tables"], environment)
    if _is_in_trouble(tables, "nft", written):
        return
    assert tables is not None
    for family in ("ip", "ip6"):
        if b"table %s %s" % (family.encode(), _TABLE.encode()) in tables.out.splitlines():
            ended = run([nft, "list", "table", family, _TABLE], environment)
            if not _is_in_trouble(ended, "nft", written):
                assert ended is not None
                written.add(NFTABLES, ended.out)


def _is_in_trouble(ended: Ended | None, name: str, written: Written) -> bool:
    """Tell whether a program did not say all, and note it."""
    if ended is not None and ended.code == 0:
        return False
    if ended is None:
        written.trouble = NO_TIME
        return True
    written.is_hung = ended.code is None
    why = ended.trouble or "exit code %d: %s" % (ended.code or 0, ended.err[-200:].decode("utf-8", "replace").strip())
    written.trouble = "what is published cannot be seen: %s: %s" % (name, why)
    return True


def _unquoted(rest: bytes) -> str:
    r"""Return what stands before the first quote that no backslash is before; ``\"`` is a quote of the text."""
    parts = rest[: 4 * _MOST_COMMENT].replace(b"\\\\", b"\0").replace(b'\\"', b"\1").partition(b'"')
    return parts[0].replace(b"\1", b'"').replace(b"\0", b"\\").decode("utf-8", "replace")
