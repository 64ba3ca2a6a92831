"""The plugins of a chain in the model: host-local, which is played, and cni-reaper itself."""

import fcntl
import json
import os
from collections.abc import Generator
from typing import Any

from cni_reaper_plugin.plugin import verbs
from cni_reaper_plugin.plugin.request import Request
from tests.prove import kernel as kernels
from tests.prove.expectations import Expectations
from tests.prove.node_state import STATISTICS, Attached, KilledError, ViolationError


class PluginCalls(Expectations):
    """Calls of host-local, which is a model here, and of cni-reaper, which is the real one."""

    def _allocate(self, attached: Attached) -> Generator[None]:
        """Take an address as host-local does: under its lock create the file, then write it. Nothing when there is none."""
        directory = self.data / attached.network
        directory.mkdir(exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # somebody in a gap of whom we are has it; a real one would wait
            content = f"{attached.box.id}\r\n{attached.ifname}"
            held = {file.name: file.read_bytes() for file in sorted(directory.iterdir()) if file.name[0].isdigit()}
            if content.encode() in held.values():
                return  # duplicate allocation is not allowed
            pool, last = self.pool[attached.network], self.last[attached.network]
            free = [address for address in pool[last:] + pool[:last] if address not in held]
            if not free:
                return
            address = free[0]
            self.last[attached.network] = pool.index(address) + 1
            (directory / address).touch()
            attached.address = address
            self.ledger[attached.network, address] = attached
            killed = True
            try:
                yield
                killed = self.random.random() < self.dies
            finally:
                if killed:  # between creating and writing
                    del self.ledger[attached.network, address]
                    attached.address = ""
            if killed:
                return
            (directory / address).write_text(content)
            mtime = self.random.choice((0, 1e9, 4e9))
            os.utime(directory / address, (mtime, mtime))
        finally:
            os.close(lock)

    def _release(self, attached: Attached) -> None:
        """Release as host-local does: every file of this ID and ifname."""
        content = f"{attached.box.id}\r\n{attached.ifname}".encode()
        for file in (self.data / attached.network).glob("[0-9]*"):
            if file.read_bytes() == content:
                file.unlink()
                self.ledger.pop((attached.network, file.name), None)
                self.unwritten[attached.network, file.name] = attached

    def _call(self, verb: str, attached: Attached | None, network: str, path: str = "", **config: Any) -> bool:
        """Run one verb of the real plugin; False where it was killed."""
        environment = {b"CNI_COMMAND": verb.encode(), b"CNI_PATH": b"/bin", b"CNI_NETNS": path.encode()}
        if attached is not None:
            environment[b"CNI_CONTAINERID"], environment[b"CNI_IFNAME"] = attached.box.id.encode(), attached.ifname.encode()
            if attached.box.uid:
                environment[b"CNI_ARGS"] = f"K8S_POD_NAMESPACE=d;K8S_POD_NAME=p;K8S_POD_UID={attached.box.uid}".encode()
        whole = {
            "cniVersion": "1.1.0",
            "name": network,
            "type": "cni-reaper",
            "dataDir": str(self.data),
            "stateDir": str(self.state),
            "cacheDirs": [str(self.cache)],
            "cache": False,  # no broken file is in this world: tests/unit/test_mend.py
            **({"networks": ["*"]} if self.star else {}),
            **config,
        }
        request = Request(verb, environment)
        request.configure(json.dumps(whole).encode())
        said = len(kernels.SAID)
        killed = False
        try:
            verbs.VERBS[verb](request, environment)
        except KilledError:
            killed = self.disturbed = True
        for level, event, fields in kernels.SAID[said:]:
            if level == "error":
                raise ViolationError(f"{event} {fields}")
            if event == "reaped":
                STATISTICS.reaped[fields["reason"]] += 1
            if event == "kept" and fields["reason"] == "port-published":
                self.disturbed = True  # at `debug` where that is no news
                STATISTICS.reaped["(kept: port-published)"] += 1
            if level == "warning" or event in ("sweep-skipped", "sweep-cut"):
                expected = event == "store-shared" or (event == "sweep-skipped" and "no reservations here" in fields["reason"])
                self.disturbed = self.disturbed or not expected
        if not self.depth:
            del kernels.SAID[:]
        if verb == "ADD" and not self.depth:
            self._see_what_is_left(network)
        return not killed

    def _gc(self, network: str, listed: dict[str, Any]) -> None:
        self._call("GC", None, network, **listed)

    def _add(self, attached: Attached) -> bool:
        """Run our ADD; what it has to free is known before, and checked after, unless something came in between.

        False where it was killed: then the runtime's ADD has failed.
        """
        if not self.depth:
            self.disturbed = bool(self.kernel.trouble) or self.kernel.blind or self.cuts
            self._expect_before(attached)
        previous = {} if attached.place == "head" else {"prevResult": {"cniVersion": "1.1.0"}}
        attached.recorded_ino = attached.box.netns.ino
        found = self.kernel.at(attached.box.path) is attached.box.netns
        self.disturbed = self.disturbed or not found
        done = self._call("ADD", attached, attached.network, attached.box.path, **previous)
        attached.mapped = found and done
        return done
