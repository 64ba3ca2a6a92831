"""What is expected of cni-reaper in the model: no live owner loses its address, and what is dead goes."""

import json
from collections.abc import Sequence

from cni_reaper_plugin.memory.waiting_owners import LOOK_AGAIN_S
from tests.prove.node_state import GRACE_S, NETWORKS, Attached, NodeState, ViolationError, packed


class Expectations(NodeState):
    """The two promises: what must stay, what must be gone."""

    def check(self) -> None:
        """Check that no live owner has lost its reservation."""
        for (network, address), attached in self.ledger.items():
            if self._lives(attached):
                try:
                    content = (self.data / network / address).read_text()
                except FileNotFoundError:
                    message = f"{address} of {attached} was freed while it lives"
                    raise ViolationError(message) from None
                if content and not content.startswith(attached.box.id):
                    message = f"{address} of {attached} was given to {content!r}"
                    raise ViolationError(message)

    def _see_what_is_taken(self, taken: set[tuple[str, str, bytes]]) -> None:
        """Check that what we have taken back was no living pod's.

        One without a record, or whose netns nothing shows but the far end of its veth, is a known limit with nftables.
        """
        for one in self.ledger.values():
            if (one.network, one.box.id, packed(one.address)) not in taken or not self._lives(one) or not one.mapped:
                continue
            path_stands = self.kernel.at(one.box.path) is one.box.netns
            if path_stands or (self.kernel.has_ns_id and self._has_a_face(one.box.netns)):
                message = f"a port of {one} was taken from it while it lives"
                raise ViolationError(message)

    def _cached_elsewhere(self, one: Attached) -> bool:
        """Tell whether libcni's entry of it, or of a sibling, names a path at which another netns stands now: a known limit."""
        for entry in sorted((self.cache / "results").glob(f"*-{one.box.id}-*")):
            try:
                path = json.loads(entry.read_bytes())["netns"]
            except ValueError:
                continue
            if self.kernel.at(path) is not None:
                return True
        return False

    def _expect_before(self, caller: Attached) -> None:
        """Note who is dead, and what this ADD has to free of it."""
        now = self.kernel.monotonic_s
        self.must_go: list[tuple[str, str, str]] = []
        networks = NETWORKS if self.star else (caller.network,)
        everyone = [self.kernel.host, *self.kernel.netns.values()]
        numbers = {netns.ino for netns in everyone}
        ids_alive = {one.box.id for one in self.ledger.values() if self._lives(one)} | {
            box.id for box in self.boxes if self.kernel.alive(box.netns)
        }
        configured = self._configured()
        dark = any(not netns.lookable and not self.kernel.is_foreign(netns) for netns in everyone)
        faceless = {netns.ino for netns in everyone if not self._has_a_face(netns)}
        for (network, address), one in self.ledger.items():
            if network not in networks or self.kernel.alive(one.box.netns) or one.box.id in ids_alive:
                continue
            unreadable = any(box.path in self.kernel.unreadable for box in self.boxes if box.id == one.box.id)
            if unreadable or not self._stands(network, address, one):
                continue
            if packed(address) in configured or one.box.id in self.kernel.named or one.box.elsewhere:
                continue
            kin = [other.recorded_ino for box in self.boxes if box.id == one.box.id for other in box.attachments]
            reused = any(ino in numbers for ino in kin if ino)
            told = self.kernel.has_ns_id and not self.kernel.unreadable and not any(ino in faceless for ino in kin)
            at_once = one.mapped and one.place == "head" and (told or not reused) and self._is_proven_ours(one)
            if at_once:
                self.must_go.append((network, address, "its netns is gone and its record says so"))
            elif self.neighbour:
                continue  # whoever has no record can be another node's
            elif self._is_hindered(one, configured) or self._cached_elsewhere(one):
                one.waiting_since = None
            elif one.waiting_since is not None and now - one.waiting_since >= GRACE_S and not dark:
                self.must_go.append((network, address, f"it was waited for since {one.waiting_since}"))
            elif one.waiting_since is None:
                one.waiting_since = -1.0  # begins when this ADD has looked
        if not self.neighbour:
            self._expect_blank_files_to_go(networks, configured)

    def _configured(self) -> set[bytes]:
        """Return the addresses that keep: those that root's netns show, and those that such a netns showed just now."""
        everyone = [self.kernel.host, *self.kernel.netns.values()]
        shown = {address for netns in everyone if not self.kernel.is_foreign(netns) for address in netns.addresses}
        now = self.kernel.monotonic_s
        return shown | {address for address, when in self.taken_off.items() if now - when <= LOOK_AGAIN_S}

    def _is_proven_ours(self, one: Attached) -> bool:
        """Tell whether its record is known to be of this node: in a shared store, where nodes have no ID, only in this boot."""
        return self.neighbour != "nfs" or bool(self.kernel.node[0]) or one.box.boot == self.kernel.boots

    def _is_hindered(self, one: Attached, configured: set[bytes]) -> bool:
        """Tell whether something keeps a dead owner for as long as it stands, however long that is.

        Its own address or a sibling's in root's netns, the runtime that names it, or another user's netns that has the number of
        one of its container's: with the address, or one that cannot be read.
        """
        theirs = {packed(address) for (_, address), other in self.ledger.items() if other.box.id == one.box.id}
        if not theirs.isdisjoint(configured) or one.box.id in self.kernel.named:
            return True
        numbers = {other.recorded_ino for box in self.boxes if box.id == one.box.id for other in box.attachments}
        reusing = [netns for number, netns in self.kernel.netns.items() if number in numbers and self.kernel.is_foreign(netns)]
        return any(not netns.lookable or packed(one.address) in netns.addresses for netns in reusing)

    def _expect_blank_files_to_go(self, networks: Sequence[str], configured: set[bytes]) -> None:
        for network in networks:
            for file in sorted((self.data / network).glob("[0-9]*")):
                if (
                    not file.read_bytes().strip(b"\0")
                    and (network, file.name) not in self.ledger
                    and packed(file.name) not in configured
                ):
                    self.must_go.append((network, file.name, "it is empty"))

    def _see_what_is_left(self, network: str) -> None:
        del network
        if self.disturbed:
            for one in self.ledger.values():
                one.waiting_since = None if one.waiting_since == -1.0 else one.waiting_since
            return
        for network_, address, why in self.must_go:
            if (self.data / network_ / address).exists():
                message = f"{network_} {address} is still there: {why}: {self.ledger.get((network_, address))}"
                raise ViolationError(message)
            self.ledger.pop((network_, address), None)
        for one in self.ledger.values():
            if one.waiting_since == -1.0:
                one.waiting_since = self.kernel.monotonic_s
        gone = [key for key, one in self.ledger.items() if not (self.data / key[0] / key[1]).exists() and not self._lives(one)]
        for key in gone:
            del self.ledger[key]

    def _forget_waiting(self) -> None:
        for one in self.ledger.values():
            one.waiting_since = None
