"""Which ports of this node lead to which address, by portmap's rules: for people only. Nothing is decided or changed by it.

What takes ports back (see withdraw) reads the comments of these rules and nothing else. Here the rules themselves are read:
with iptables, a rule of CNI-HOSTPORT-DNAT has the comment and jumps to the container's chain, whose DNAT rules have the ports;
with nftables one rule has all. What is not written as portmap writes it is left out.
Source: containernetworking/plugins plugins/meta/portmap (v1.9.1), as iptables-save 1.8 and nft 1.0 print its rules.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cni_reaper_plugin.host_local import pool
from cni_reaper_plugin.published import deletion, written
from cni_reaper_plugin.published.written import IPTABLES
from cni_reaper_plugin.system import programs

WAIT_S = 10.0  # for each program

_COMMENT = re.compile(r'dnat name: "(?P<network>[^"]*)" id: "(?P<container>[^"]*)')
_JUMP = re.compile(r'-A CNI-HOSTPORT-DNAT .*--comment "(?P<comment>(?:[^"\\]|\\.)*)".* -j (?P<chain>CNI-DN-\S+)')
_DNAT = re.compile(
    r"-A (?P<chain>CNI-DN-\S+) (?:-d (?P<host>[^\s/]+)(?:/\d+)? )?-p (?P<protocol>\w+) .*--dport (?P<host_port>\d+) "
    r"(?:.* )?-j DNAT --to-destination (?P<to>\S+)"
)
_NFTABLES = re.compile(
    r"\s*(?:ip6? daddr (?P<host>\S+) )?(?P<protocol>\w+) dport (?P<host_port>\d+) "
    r'(?:.* )?dnat (?:ip6? )?to (?P<to>\S+) comment "(?P<container>[^"]*)"'
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_reaper_plugin.system.programs import Ended, Environment


class Port(NamedTuple):
    """A published port.

    Attributes:
        backend: IPTABLES or NFTABLES.
        network: as the rule's comment has it, "" where it has none (nftables).
        container: as the rule's comment has it, "" where the comment is cut.
        comment: all of it.
        protocol: `tcp`, `udp` or `sctp`.
        host: the address of the node that is published, "" for each.
        host_port: the port that is published.
        address: where it leads to, packed, 4 or 16 bytes.
        port: where it leads to.
    """

    backend: str
    network: str
    container: str
    comment: str
    protocol: str
    host: str
    host_port: int
    address: bytes
    port: int

    def is_of(self, network: str, container: str) -> bool:
        """Tell whether a container of a network has published it."""
        return self.comment == (written.comment(network, container) if self.backend == IPTABLES else container)


def look(environment: Environment) -> tuple[list[Port], str]:
    """Return the ports that lead somewhere, and why some may be missing, "" where none is. Raises nothing.

    environment: with PATH and CNI_PATH. A program that is not there has written nothing.
    """
    path = written.search_path(*(deletion.directories(environment, name) for name in (b"PATH", b"CNI_PATH")))

    def run(argv: list[str], variables: Environment) -> Ended | None:
        """Run one of the programs that list rules."""
        return programs.run(argv, variables, WAIT_S)

    searched = {**environment, b"PATH": ":".join(path).encode("utf-8", "surrogateescape")}
    seen = written.look(path, searched, run, is_persons=True)
    found = (one for backend, out in seen.texts for one in read(backend, out.decode("utf-8", "replace")))
    return list(dict.fromkeys(found)), seen.trouble


def read(backend: str, text: str) -> Iterator[Port]:
    """Yield the ports in the output of a backend's program."""
    return _of_iptables(text) if backend == IPTABLES else _of_nftables(text)


def _of_iptables(text: str) -> Iterator[Port]:
    lines = [line for line in text.splitlines() if line.startswith(("-A CNI-HOSTPORT-DNAT ", "-A CNI-DN-"))]
    comments = {}
    for line in lines:
        jump = _JUMP.match(line)
        if jump is not None:
            comments[jump["chain"]] = re.sub(r"\\(.)", r"\1", jump["comment"])
    for line in lines:
        rule = _DNAT.match(line)
        if rule is None or rule["chain"] not in comments:
            continue
        comment = comments[rule["chain"]]
        named = _COMMENT.match(comment)
        network = named["network"] if named is not None else ""
        container = named["container"] if named is not None and comment.endswith('"') else ""
        yield from _port(IPTABLES, network, container, comment, rule)


def _of_nftables(text: str) -> Iterator[Port]:
    for rule in filter(None, map(_NFTABLES.match, text.splitlines())):
        yield from _port(written.NFTABLES, "", rule["container"], rule["container"], rule)


def _port(backend: str, network: str, container: str, comment: str, rule: re.Match[str]) -> Iterator[Port]:
    address, _, port = rule["to"].rpartition(":")
    packed = pool.pack(address.strip("[]"))
    if packed and port.isdecimal():
        host = rule["host"] or ""
        yield Port(backend, network, container, comment, rule["protocol"], host, int(rule["host_port"]), packed, int(port))
