"""A small world, explored completely: two addresses, two pods, one foreign netns, one reboot, two calls at a time.

    python -m tests.prove.small_world --minutes 10          every world, as deep as that reaches
    python -m tests.prove.small_world --walk FILE           a path that broke a promise, once more

The product's own verbs, sweep, judge, store and records run in it, on `small_files`. Breadth-first: after the states that n
events lead to come those that one more event leads to. Between two events the calls that are on their way take their system
calls in every order (ORDERS: or in fewer, to come deeper). What was seen is not gone through again: a state is known by a number
for all that can tell it from another.

An order of two steps is left out only where the other order leads to the same state: neither writes what the other reads or
writes. So an event that changes the kernel is tried after each look at the kernel and not after each file, and a process is
killed after what it wrote.
"""

import argparse
import fcntl
import ipaddress
import json
import posix
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from cni_reaper_plugin.plugin import verbs
from cni_reaper_plugin.plugin.request import Request
from tests.prove.small_files import (
    CACHE,
    DATA,
    KERNEL,
    NETWORK,
    RUN,
    STATE,
    STORE,
    WITHOUT_END,
    Blocked,
    Broken,
    Call,
    Machine,
    Node,
    Seat,
    Seen,
    SmallKernel,
    State,
    collide,
    copied,
    digest_boxes,
    digest_files,
    installed,
)

ADDRESSES = ("10.7.0.2", "10.7.0.3")
GRACE_S = 1500
AT_ONCE = 2  # calls
FILE = Path(".build/walks/small-world.json")

LIVES, KILLS, REBOOTS, STRANGERS, PATHS, RECORDS, TIMES, LISTS, DELS, REPEATS, BETWEEN = range(11)
MOST = (3, 1, 1, 1, 1, 1, 2, 2, 3, 1)  # of each, in one history; of the last as many as the order says


class Order(NamedTuple):
    """How calls and events may mix. between: how often something comes in between, None: in every order; share: of the time."""

    name: str
    between: int | None
    share: float


ORDERS = (
    Order("one after the other", 0, 0.2),
    Order("with one thing in between", 1, 0.3),
    Order("in every order", None, 0.5),
)


class Box(NamedTuple):
    """One life of a pod. As in `world`; ns_id and boot name its netns; waiting: since when a dead one is waited for."""

    pod: str
    id: str
    uid: str
    path: str
    boot: int
    ns_id: int
    ino: int
    place: str
    hidden: bool
    address: str = ""
    up: bool = False
    mapped: bool = False
    released: bool = False
    waiting: float | None = None


@dataclass(frozen=True)
class Root:
    """Where a small world begins.

    places: of our entry in each pod's chain; by_process: pods whose CNI_NETNS is a process's path;
    hidden: pods whose address the kernel never shows; dark: pods whose netns cannot be looked into; unlinked: pods without a
    veth (macvlan), whose address no link leads to; held: what keeps a netns whose path is lost, see KEEP; cached: libcni's cache
    is written; comes_back: A has one ID in all its lives, as a container of Podman's; before: events before the begin.
    """

    name: str
    has_ns_id: bool = False
    places: tuple[str, str] = ("head", "head")
    by_process: str = ""
    hidden: str = ""
    dark: str = ""
    unlinked: str = ""
    held: str = "a process"
    cached: bool = False
    comes_back: bool = False
    before: tuple[str, ...] = ()


def _roots() -> Iterator[Root]:
    for has_ns_id in (False, True):
        kind = "with NS_GET_ID" if has_ns_id else "without NS_GET_ID"
        yield Root(f"a leak at the head, {kind}", has_ns_id, comes_back=True, before=("A starts", "A's netns ends"))
        yield Root(
            f"an old node, {kind}",
            has_ns_id,
            ("none", "head"),
            unlinked="A" if has_ns_id else "",
            before=("A starts", "A's netns ends"),
        )
        yield Root(
            f"second in the chain, {kind}", has_ns_id, ("second", "head"), cached=True, comes_back=True, before=("A starts",)
        )
        yield Root(f"an address that the kernel does not show, {kind}", has_ns_id, hidden="A", before=("A starts",))
        yield Root(f"a process's path, {kind}", has_ns_id, by_process="A", before=("A starts",))


def _guarded_roots() -> Iterator[Root]:
    """Begin where A lives, and nothing but a guard of the judge says so: at once, or after `GRACE_S`."""
    lost = ("A starts", "A's record is lost", "GC without a list")  # which begins to wait for it
    yield Root("a lost record", unlinked="A", before=lost)
    yield Root("a lost record, of an address that the kernel does not show", True, hidden="A", before=lost)
    yield Root("a lost record, of a netns that cannot be looked into", dark="A", unlinked="A", before=lost)
    yield Root("a netns that only a socket holds", True, held="a socket", before=(*lost[:1], "A's path is lost"))
    yield Root(
        "a netns that only a descriptor holds, of an address that the kernel does not show",
        held="a descriptor",
        hidden="A",
        before=("A starts", "A's path is lost", "GC without a list"),
    )
    yield Root("a mount over a netns", True, held="a mount below", before=(*lost[:1], "A's path is lost"))


ROOTS = (*_roots(), *_guarded_roots())


@dataclass
class Explored:
    """What an exploration came to. depth: events, up to which all is known; broken: which promise, path: the way there."""

    root: str
    order: str
    states: int = 0
    transitions: int = 0
    depth: int = -1
    layers: list[int] = field(default_factory=list)
    seconds: float = 0.0
    broken: str = ""
    path: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.root}, {self.order}: {self.states} states, {self.transitions} steps, all of {self.depth} events"
        text += f", {self.seconds:.0f} s"
        return text + (f"; BROKEN: {self.broken}" if self.broken else "")


def packed(address: str) -> bytes:
    """Return the bytes of an address."""
    return ipaddress.ip_address(address).packed


class Small:
    """One small world. seat: from small_files.installed; order: how calls and events may mix in it."""

    def __init__(self, root: Root, seat: Seat, order: Order = ORDERS[-1]) -> None:
        self.root, self.order = root, order
        self.seat = seat
        self.table: dict[int, Any] = {}
        self.kept: dict[Any, Any] = {}
        self.stages: dict[str, Callable[..., bool]] = {
            "ours": self._ours,
            "GC": self._gc,
            "allocate": self._allocate,
            "release": self._release,
            "configure": self._configure,
            "unconfigure": self._unconfigure,
            "cache": self._cache,
            "uncache": self._uncache,
        }

    def begin(self) -> State:
        """Return the first state."""
        directories = ("", "/run", "/run/netns", RUN, DATA, STORE, STATE, CACHE, f"{CACHE}/results")
        files = {path: number for number, path in enumerate(directories, 1)}
        nodes = {number: Node(True) for number in files.values()}
        kernel = SmallKernel(self.root.has_ns_id)
        digests = digest_files(files, nodes, {}, {}), kernel.digested(), digest_boxes({})
        state = State(files, nodes, {}, {}, kernel, {}, (), (0,) * (len(MOST) + 1), digests)
        for name in self.root.before:
            state = self.event(state, name)
            while state.calls:
                state = self.run(state, state.calls[0].name)
        return state._replace(came=None, last=(None, ""))

    # Calls

    def run(
        self, state: State, name: str, steps: int = 0, gives_up: bool = False, say: Callable[[str], None] | None = None
    ) -> State:
        """Let a call take so many steps, or come to its end; return the state then."""
        found: list[State] = []

        def seen(now: State, what: str, arguments: tuple[Any, ...]) -> bool:
            if say is not None and machine.steps:
                say(f"    then {name}: {machine.told(what, arguments)}")
            found[:] = [now]
            return not steps or machine.steps < steps

        machine = self.machine(state, name, seen, gives_up)
        machine.run()
        return found[0]

    def machine(self, state: State, name: str, seen: Seen, gives_up: bool = False) -> Machine:
        """Return a call in its seat, ready to run."""
        place = [call.name for call in state.calls].index(name)
        self.seat.machine = Machine(self, state, place, seen, gives_up)
        return self.seat.machine

    def _ours(self, machine: Machine, verb: str, key: str) -> bool:
        """Run a verb of the real plugin."""
        box: Box = machine.know("box", key)
        must_go, begun = machine.know("expected") if verb == "ADD" else ((), ())
        previous = {"prevResult": {"cniVersion": "1.1.0"}} if verb == "ADD" and box.place != "head" else {}
        self._call(verb, box, previous)
        if verb != "ADD":
            return True
        machine.note(key, mapped=machine.know("recorded", key))
        if machine.know("alone"):
            for address, why in must_go:
                if machine.know("stands", address):
                    machine.break_promise(f"{address} is still there: {why}")
            for other in begun:
                machine.know("waiting", other)
        return True

    def _gc(self, _: Machine, listed: tuple[str, ...] | None) -> bool:
        valid = [{"containerID": one, "ifname": "eth0"} for one in listed or ()]
        self._call("GC", None, {} if listed is None else {"cni.dev/valid-attachments": valid})
        return True

    def _call(self, verb: str, box: Box | None, more: dict[str, Any]) -> None:
        environment = {b"CNI_COMMAND": verb.encode(), b"CNI_PATH": b"/bin"}
        if box is not None:
            environment.update(
                {b"CNI_CONTAINERID": box.id.encode(), b"CNI_IFNAME": b"eth0", b"CNI_NETNS": box.path.encode()},
            )
            if box.uid:
                environment[b"CNI_ARGS"] = f"K8S_POD_NAMESPACE=d;K8S_POD_NAME=p;K8S_POD_UID={box.uid}".encode()
        whole = {
            "cniVersion": "1.1.0",
            "name": NETWORK,
            "type": "cni-reaper",
            "dataDir": DATA,
            "stateDir": STATE,
            "cacheDirs": [CACHE],
            "cache": False,  # no broken file is in this world: tests/unit/test_mend.py
        }
        request = Request(verb, environment)
        request.configure(orjson.dumps({**whole, **more}))
        verbs.VERBS[verb](request, environment)

    def _allocate(self, machine: Machine, key: str) -> bool:
        """Take an address as host-local does; False when there is none."""
        box: Box = machine.know("box", key)
        content = f"{box.id}\r\neth0".encode()
        lock = machine.open(f"{STORE}/lock", posix.O_RDONLY | posix.O_CREAT)
        machine.take(lock, fcntl.LOCK_EX, WITHOUT_END)
        held = self._held(machine)
        free = [address for address in ADDRESSES if address not in held]
        if content in held.values() or not free:
            machine.close(lock)
            return False
        file = machine.open(f"{STORE}/{free[0]}", posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL)
        machine.note(key, address=free[0])
        machine.write(file, content)
        machine.close(file)
        machine.close(lock)
        return True

    def _held(self, machine: Machine) -> dict[str, bytes]:
        held = {}
        for name in machine.listdir(STORE):
            if name[0].isdigit():
                file = machine.open(f"{STORE}/{name}", posix.O_RDONLY)
                held[name] = machine.read(file, 1024)
                machine.close(file)
        return held

    def _release(self, machine: Machine, key: str) -> bool:
        """Release as host-local does: every file of this ID and ifname."""
        box: Box = machine.know("box", key)
        lock = machine.open(f"{STORE}/lock", posix.O_RDONLY | posix.O_CREAT)
        machine.take(lock, fcntl.LOCK_EX, WITHOUT_END)
        for name, content in self._held(machine).items():
            if content == f"{box.id}\r\neth0".encode():
                machine.unlink(f"{STORE}/{name}")
                machine.know("released", box.id, name)
        machine.close(lock)
        return True

    def _configure(self, machine: Machine, key: str) -> bool:
        machine.change("configure", key)
        machine.note(key, up=True)
        return True

    def _unconfigure(self, machine: Machine, key: str) -> bool:
        machine.change("unconfigure", key)
        return True

    def _cache(self, machine: Machine, key: str) -> bool:
        box: Box = machine.know("box", key)
        entry = {
            "kind": "cniCacheV1",
            "netns": box.path,
            "networkName": NETWORK,
            "containerId": box.id,
            "ifName": "eth0",
            "result": {},
        }
        machine.put(self._cache_entry(box), orjson.dumps(entry))
        return True

    def _uncache(self, machine: Machine, key: str) -> bool:
        path = self._cache_entry(machine.know("box", key))
        if machine.access(path, posix.F_OK):
            machine.unlink(path)
        return True

    @staticmethod
    def _cache_entry(box: Box) -> str:
        return f"{CACHE}/results/{NETWORK}-{box.id}-eth0"

    # What chains change and ask beside the plugin

    def do_configure(self, machine: Machine, key: str) -> None:
        """Give an interface in a pod's netns the address."""
        box, netns = machine.boxes[key], self._netns(machine.kernel, machine.boxes[key])
        if netns is not None and not box.hidden:
            netns.addresses.add(packed(box.address))

    def do_unconfigure(self, machine: Machine, key: str) -> None:
        """Take the address away."""
        box, netns = machine.boxes[key], self._netns(machine.kernel, machine.boxes[key])
        if netns is not None and box.address:
            netns.addresses.discard(packed(box.address))

    def tell_box(self, machine: Machine, key: str) -> Box:
        """Return a life of a pod."""
        box: Box = machine.boxes[key]
        return box

    def tell_alone(self, machine: Machine) -> bool:
        """Tell whether nobody has come in between."""
        return machine.call.alone

    def tell_stands(self, machine: Machine, address: str) -> bool:
        """Tell whether an address is reserved."""
        return f"{STORE}/{address}" in machine.files

    def tell_waiting(self, machine: Machine, key: str) -> None:
        """Note that a dead owner is waited for from now on."""
        if machine.boxes[key].waiting is None:
            machine.boxes = {**machine.boxes, key: machine.boxes[key]._replace(waiting=machine.kernel.monotonic_s)}
            machine.changed = True

    def tell_released(self, machine: Machine, name: str, address: str) -> None:
        """Note that host-local has released an address of a container ID."""
        for key, box in machine.boxes.items():
            if (box.id, box.address) == (name, address):
                machine.boxes = {**machine.boxes, key: box._replace(address="")}
                machine.changed = True

    # The ledger and its promises

    @staticmethod
    def _netns(kernel: SmallKernel, box: Box) -> Any:
        """Return the netns of a box, None when it has ended."""
        if kernel.boots != box.boot:
            return None
        return next((one for one in kernel.netns.values() if one.ns_id == box.ns_id), None)

    def check(self, state: State | Machine) -> None:
        """Check that no live owner has lost its reservation."""
        for key, box in state.boxes.items():
            if not box.address or box.released or self._netns(state.kernel, box) is None:
                continue
            number = state.files.get(f"{STORE}/{box.address}")
            if number is None:
                message = f"{box.address} of {key} was freed while it lives"
                raise Broken(message)
            content = state.nodes[number].content
            if content and not content.startswith(box.id.encode()):
                message = f"{box.address} of {key} was given to {content!r}"
                raise Broken(message)

    def tell_recorded(self, machine: Machine, key: str) -> bool:
        """Tell whether our record names the netns of a box."""
        box: Box = machine.boxes[key]
        number = machine.files.get(f"{STATE}/{NETWORK}/{box.id}:eth0")
        record = orjson.loads(machine.nodes[number].content) if number is not None else {}
        return bool(record.get("ino") == box.ino and record.get("bootID") == machine.kernel.boot_id)

    def tell_expected(self, machine: Machine) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """Return what an ADD that nobody hinders has to free, and whom it begins to wait for. As in `world`."""
        if not machine.call.alone:
            return (), ()
        kernel = machine.kernel
        everyone = [kernel.host, *kernel.netns.values()]
        numbers = {one.ino for one in everyone}
        configured = {address for one in everyone for address in one.addresses}
        alive = {box.id for box in machine.boxes.values() if self._netns(kernel, box) is not None}
        faceless = {
            one.ino
            for one in everyone
            if not (one.processes or one.threads or one.descriptors or any(kernel.at(place) is one for place in one.places))
        }
        must_go, begun = [], []
        for key, box in machine.boxes.items():
            number = machine.files.get(f"{STORE}/{box.address}") if box.address else None
            if number is None or machine.nodes[number].content != f"{box.id}\r\neth0".encode():
                continue
            if box.id in alive or packed(box.address) in configured or box.id in kernel.named:
                continue
            kin = [one.ino for one in machine.boxes.values() if one.id == box.id]
            reused = any(one in numbers for one in kin)
            told = kernel.has_ns_id and not any(one in faceless for one in kin)
            cached = self._cache_entry(box) in machine.files and kernel.at(box.path) is not None
            if box.mapped and box.place == "head" and (told or not reused):
                must_go.append((box.address, f"its netns is gone and its record says so: {key}"))
            elif cached:
                continue
            elif box.waiting is not None and kernel.monotonic_s - box.waiting >= GRACE_S:
                must_go.append((box.address, f"{key} was waited for since {box.waiting}"))
            else:
                begun.append(key)
        owned = {box.address for box in machine.boxes.values()}
        for address in ADDRESSES:
            number = machine.files.get(f"{STORE}/{address}")
            if (
                number is not None
                and not machine.nodes[number].content
                and address not in owned
                and packed(address) not in configured
            ):
                must_go.append((address, "it is empty"))
        return tuple(must_go), tuple(begun)

    # Events

    def events(self, state: State) -> Iterator[str]:
        """Name the events that may come now and make a difference."""
        if state.calls and self.order.between is not None and state.spent[BETWEEN] == self.order.between:
            return
        footprint = state.last[0]
        looked = footprint is None or collide(footprint, ((), (KERNEL,)))
        wrote = footprint is None or bool(footprint[1])
        # In every order: to begin collides with nothing but looks at the kernel, and the call's steps come in any order then.
        # Else a call that begins in between is run to its end there, so it may begin anywhere.
        begins = footprint is None or self.order.between is not None
        if looked or begins:
            yield from self._starts(state)
        if looked:
            yield from self._kernel_events(state)
        if wrote:
            if state.spent[REBOOTS] < MOST[REBOOTS]:
                yield "the node reboots"
            if state.spent[KILLS] < MOST[KILLS]:
                yield from (f"{call.name} is killed" for call in state.calls if state.last[1] in ("", call.name))
        if begins and len(state.calls) < AT_ONCE:
            yield from self._calls(state)
        if not state.calls:
            yield from self._quiet_events(state)

    def _living(self, state: State) -> dict[str, Box]:
        return {key: box for key, box in state.boxes.items() if self._netns(state.kernel, box) is not None}

    def _starts(self, state: State) -> Iterator[str]:
        busy = {box.pod for box in self._living(state).values()} | {call.name for call in state.calls}
        if len(state.calls) < AT_ONCE and state.spent[LIVES] < MOST[LIVES]:
            yield from (f"{pod} starts" for pod in ("A", "B") if pod not in busy)

    def _kernel_events(self, state: State) -> Iterator[str]:
        living = self._living(state)
        yield from (f"{pod}'s netns ends" for pod in ("A", "B") if any(box.pod == pod for box in living.values()))
        if state.spent[PATHS] < MOST[PATHS]:
            yield from (
                f"{box.pod}'s path is lost"
                for box in living.values()
                if state.kernel.at(box.path) and box.path.startswith("/run")
            )
        if state.spent[STRANGERS] < MOST[STRANGERS]:
            yield "a stranger comes"
        elif any(not self._is_pods(state, one) for one in state.kernel.netns.values()):
            yield "a stranger goes"

    def _is_pods(self, state: "State | Draft", netns: Any) -> bool:
        return any((box.boot, box.ns_id) == (state.kernel.boots, netns.ns_id) for box in state.boxes.values())

    def _calls(self, state: State) -> Iterator[str]:
        going = {call.name for call in state.calls}
        for pod in ("A", "B"):
            key = newest(state.boxes, pod)
            if key and pod not in going and state.spent[DELS] < MOST[DELS] and not state.boxes[key].released:
                yield f"{pod} is deleted"
                yield f"{pod} is deleted, but not by host-local"
                if state.spent[REPEATS] < MOST[REPEATS] and self._can_be_added_again(state, state.boxes[key]):
                    yield f"{pod}'s ADD is repeated"
        if "GC" not in going and state.spent[LISTS] < MOST[LISTS]:
            yield "GC without a list"
            if not state.calls:
                yield "GC with a list"

    def _can_be_added_again(self, state: State, box: Box) -> bool:
        netns = self._netns(state.kernel, box)
        return box.place == "head" and netns is not None and state.kernel.at(box.path) is netns

    def _quiet_events(self, state: State) -> Iterator[str]:
        if state.spent[TIMES] < MOST[TIMES] and all(box.up or not box.address for box in self._living(state).values()):
            yield "two minutes pass"
            yield "half an hour passes"
        if state.spent[RECORDS] < MOST[RECORDS]:
            for key, box in state.boxes.items():
                waits = box.address and not box.up and self._netns(state.kernel, box) is not None
                if key == newest(state.boxes, box.pod) and f"{STATE}/{NETWORK}/{box.id}:eth0" in state.files and not waits:
                    yield f"{box.pod}'s record is lost"

    def event(self, state: State, name: str) -> State:
        """Return the state after an event."""
        draft = Draft(state)
        draft.calls = [call._replace(alone=False) for call in draft.calls]
        if draft.calls and self.order.between is not None:
            draft.spent[BETWEEN] += 1
        who, _, what = name.partition(" ")
        EVENTS[what](self, draft, who.removesuffix("'s"))
        going = {call.name for call in state.calls}
        new = [call.name for call in draft.calls if call.name not in going]
        turn = ""
        if self.order.between is not None and draft.calls:
            left = {call.name for call in draft.calls}
            turn = new[0] if new else state.turn if state.turn in left else draft.calls[0].name
        after = draft.done((name, state.came), turn)
        self.check(after)
        return after

    def starts(self, draft: "Draft", pod: str) -> None:
        """A pod starts: a netns is made, and ADD begins."""
        draft.spent[LIVES] += 1
        key = f"{pod}{1 + sum(box.pod == pod for box in draft.boxes.values())}"
        draft.boxes[key] = self._new_box(draft.kernel, pod, int(key[1:]))
        draft.calls.append(Call(pod, self._chain(draft.boxes[key], key), alone=not draft.calls))

    def netns_ends(self, draft: "Draft", pod: str) -> None:
        """A pod's netns ends, and no DEL comes, or it comes late."""
        self._end(draft.kernel, draft.boxes[draft.last(pod)], draft.boxes)

    def path_is_lost(self, draft: "Draft", pod: str) -> None:
        """A pod's path is unmounted, or another netns mounted over it, and something else keeps its netns."""
        draft.spent[PATHS] += 1
        box = draft.boxes[draft.last(pod)]
        KEEP[self.root.held](draft.kernel, self._netns(draft.kernel, box), box.path)

    def stranger_comes(self, draft: "Draft", _: str) -> None:
        """A service with PrivateNetwork: a netns of nobody."""
        draft.spent[STRANGERS] += 1
        draft.kernel.create().processes.add(draft.kernel.pid())

    def stranger_goes(self, draft: "Draft", _: str) -> None:
        """It ends."""
        for netns in [one for one in draft.kernel.netns.values() if not self._is_pods(draft, one)]:
            netns.processes.clear()
            draft.kernel.settle(netns)

    def is_deleted(self, draft: "Draft", pod: str, by_host_local: bool = True) -> None:
        """DEL begins."""
        draft.spent[DELS] += 1
        key = draft.last(pod)
        draft.boxes[key] = draft.boxes[key]._replace(released=True)
        draft.calls.append(Call(pod, self._unchain(draft.boxes[key], key, by_host_local), alone=False))

    def is_deleted_without_host_local(self, draft: "Draft", pod: str) -> None:
        """DEL begins, and the plugin that should call host-local answers success and does nothing."""
        self.is_deleted(draft, pod, by_host_local=False)

    def add_is_repeated(self, draft: "Draft", pod: str) -> None:
        """An impatient runtime sends ADD again."""
        draft.spent[REPEATS] += 1
        key = draft.last(pod)
        draft.calls.append(Call(pod, (("ours", "ADD", key),), alone=not draft.calls))

    def collects(self, draft: "Draft", _: str) -> None:
        """GC begins, without a list."""
        self._collect(draft, None)

    def collects_by_list(self, draft: "Draft", _: str) -> None:
        """GC begins, with a true list."""
        living = (box for box in draft.boxes.values() if self._netns(draft.kernel, box) is not None)
        self._collect(draft, tuple(sorted(box.id for box in living if not box.released)))

    @staticmethod
    def _collect(draft: "Draft", listed: tuple[str, ...] | None) -> None:
        draft.spent[LISTS] += 1
        draft.calls.append(Call("GC", (("GC", listed),), alone=False))
        draft.nobody_waits()

    def is_killed(self, draft: "Draft", name: str) -> None:
        """A process is killed, and with it its chain fails."""
        draft.spent[KILLS] += 1
        draft.calls = [call for call in draft.calls if call.name != name]
        draft.locks = {one: how for one, how in draft.locks.items() if one[1] != name}
        self._fail(draft, draft.last(name))

    def node_reboots(self, draft: "Draft", _: str) -> None:
        """The node reboots, and /run is empty."""
        draft.spent[REBOOTS] += 1
        for call in draft.calls:
            self._fail(draft, draft.last(call.name))
        draft.calls, draft.locks = [], {}
        draft.kernel.boot()
        draft.files = {path: number for path, number in draft.files.items() if not path.startswith(RUN + "/")}
        draft.nobody_waits()

    def two_minutes_pass(self, draft: "Draft", _: str) -> None:
        """So long that GC may free whom its list does not name."""
        draft.spent[TIMES] += 1
        draft.kernel.monotonic_s += 121

    def half_an_hour_passes(self, draft: "Draft", _: str) -> None:
        """Longer than an owner without a netns is waited for."""
        draft.spent[TIMES] += 1
        draft.kernel.monotonic_s += GRACE_S + 1

    def record_is_lost(self, draft: "Draft", pod: str) -> None:
        """A record is lost: the one of all lives of a container that has come back under its ID."""
        draft.spent[RECORDS] += 1
        owner = draft.boxes[draft.last(pod)].id
        record = f"{STATE}/{NETWORK}/{owner}:eth0"
        draft.files = {path: number for path, number in draft.files.items() if path != record}
        for key, box in draft.boxes.items():
            if box.id == owner:
                draft.boxes[key] = box._replace(mapped=False)

    def _new_box(self, kernel: SmallKernel, pod: str, life: int) -> Box:
        """Make a netns for a pod. B is a sandbox, and has a new ID each time."""
        place = self.root.places["AB".index(pod)]
        netns = kernel.create()
        pid = kernel.pid()
        netns.processes.add(pid)
        netns.veth = pod not in self.root.unlinked
        netns.lookable = pod not in self.root.dark
        path = f"/proc/{pid}/ns/net" if pod in self.root.by_process else f"/run/netns/{pod}"
        if path.startswith("/run"):
            kernel.mount(netns, path)
        number = 10 * "AB".index(pod) + (1 if pod == "A" and self.root.comes_back else life)
        name = "ab" * 16 + f"{number:032x}"
        if pod in self.root.hidden:
            kernel.named.add(name)
        uid = "" if pod == "A" else f"uid-{life}"
        return Box(pod, name, uid, path, kernel.boots, netns.ns_id, netns.ino, place, pod in self.root.hidden)

    def _chain(self, box: Box, key: str) -> tuple[tuple[Any, ...], ...]:
        ours, rest = ("ours", "ADD", key), (("allocate", key), ("configure", key))
        chains: dict[str, tuple[tuple[Any, ...], ...]] = {"head": (ours, *rest), "second": (*rest, ours), "none": rest}
        return (*chains[box.place], ("cache", key)) if self.root.cached else chains[box.place]

    def _unchain(self, box: Box, key: str, released: bool) -> tuple[tuple[Any, ...], ...]:
        ours = [("ours", "DEL", key)]
        stages = [
            ("unconfigure", key),
            *(ours if box.place == "second" else []),
            *([("release", key)] if released else []),
            *(ours if box.place == "head" else []),
        ]
        return (*stages, ("uncache", key)) if self.root.cached else tuple(stages)

    def _end(self, kernel: SmallKernel, box: Box, boxes: dict[str, Box]) -> None:
        """Take away all that holds a netns."""
        netns = self._netns(kernel, box)
        if netns is None:
            return
        for path in sorted(netns.places):
            while netns in kernel.mounts.get(path, ()):
                kernel.umount(path)
        netns.processes.clear()
        netns.descriptors.clear()
        netns.socket = False
        kernel.settle(netns)
        if not any(one.id == box.id and self._netns(kernel, one) is not None for one in boxes.values()):
            kernel.named.discard(box.id)

    def _fail(self, draft: "Draft", key: str) -> None:
        """Let the call of a box end where it is; a runtime then takes the netns down, unless our record names it for good."""
        box = draft.boxes.get(key)
        if box is None:
            return
        number = draft.files.get(f"{STORE}/{box.address}") if box.address else None
        if number is not None and not draft.nodes[number].content:  # between creating and writing
            draft.boxes[key] = box = box._replace(address="")
        if not box.up and not (box.mapped and box.place == "head"):
            self._end(draft.kernel, box, draft.boxes)

    def walk(self, path: list[Any], say: Callable[[str], None]) -> State:
        """Go a path once more. Raises Broken at its end."""
        state = self.begin()
        for one in path:
            if isinstance(one, str):
                say(one)
                state = self.event(state, one)
            else:
                name, steps, gives_up = one
                say(f"{name} goes on" + (", having waited in vain" if gives_up else ""))
                state = self.run(state, name, steps, gives_up, say)
        return state


def _kept_by_process(kernel: SmallKernel, netns: Any, path: str) -> None:
    netns.processes.add(netns.ns_id + 500)
    kernel.umount(path)


def _kept_by_descriptor(kernel: SmallKernel, netns: Any, path: str) -> None:
    netns.processes.clear()
    netns.descriptors.add(netns.ns_id + 500)
    kernel.umount(path)


def _kept_by_socket(kernel: SmallKernel, netns: Any, path: str) -> None:
    netns.processes.clear()
    netns.socket = True
    kernel.umount(path)


def _kept_below(kernel: SmallKernel, netns: Any, path: str) -> None:
    netns.processes.clear()
    kernel.mount(kernel.create(), path)


KEEP: dict[str, Callable[[SmallKernel, Any, str], None]] = {  # once its path is lost, in words
    "a process": _kept_by_process,
    "a descriptor": _kept_by_descriptor,
    "a socket": _kept_by_socket,
    "a mount below": _kept_below,
}


class Draft:
    """A state that an event changes."""

    def __init__(self, state: State) -> None:
        self.kernel, self.boxes = copied(state.kernel), dict(state.boxes)
        self.files, self.nodes, self.locks, self._writes = state.files, state.nodes, state.locks, state.writes
        self.calls, self.spent = list(state.calls), list(state.spent)

    def last(self, pod: str) -> str:
        """Return the newest life of a pod."""
        return newest(self.boxes, pod)

    def nobody_waits(self) -> None:
        """Forget since when the dead are waited for."""
        self.boxes = {one: box._replace(waiting=None) for one, box in self.boxes.items()}

    def done(self, came: Any, turn: str) -> State:
        """Return the state that has become of it."""
        held = {*self.files.values(), *(one[1] for call in self.calls for one in call.descriptors.values())}
        nodes = {number: node for number, node in self.nodes.items() if number in held}
        digests = digest_files(self.files, nodes, self.locks, self._writes), self.kernel.digested(), digest_boxes(self.boxes)
        calls = tuple(sorted(self.calls, key=lambda call: call.name))
        after = State(
            self.files, nodes, self.locks, self._writes, self.kernel, self.boxes, calls, tuple(self.spent), digests, came=came
        )
        return after._replace(turn=turn)


def newest(boxes: dict[str, Box], pod: str) -> str:
    """Return the newest life of a pod, "" where it has had none."""
    return max((key for key in boxes if key[0] == pod), default="")


EVENTS: dict[str, Callable[[Small, Draft, str], None]] = {  # by what stands behind the first word of their names
    "starts": Small.starts,
    "netns ends": Small.netns_ends,
    "path is lost": Small.path_is_lost,
    "stranger comes": Small.stranger_comes,
    "stranger goes": Small.stranger_goes,
    "is deleted": Small.is_deleted,
    "is deleted, but not by host-local": Small.is_deleted_without_host_local,
    "ADD is repeated": Small.add_is_repeated,
    "without a list": Small.collects,
    "with a list": Small.collects_by_list,
    "is killed": Small.is_killed,
    "node reboots": Small.node_reboots,
    "minutes pass": Small.two_minutes_pass,
    "an hour passes": Small.half_an_hour_passes,
    "record is lost": Small.record_is_lost,
}


class _OutOfTime(BaseException):
    """There is no time for more. No handler of the product may take it for an error."""


class Exploration:
    """The way through all states of a small world; `done` tells how far it has come."""

    def __init__(self, world: Small) -> None:
        self.done = Explored(world.root.name, world.order.name)
        self._world = world
        self._end = 0.0
        self._known: set[int] = set()
        self._following: list[State] = []  # from which an event leads on
        self._unfinished: list[tuple[State, str]] = []  # in which calls are on their way, and one that runs just now
        self._waiting: list[tuple[State, str]] = []  # in which a call can give up waiting for a lock

    def deeper(self, end: float) -> bool:
        """Go one event deeper; False where there is nothing more, a promise is broken, or at an end (time.process_time)."""
        begun, self._end = time.process_time(), end
        try:
            if not self._known:
                self._reach(self._world.begin(), "")
                self._finish()
            elif self._following or self._waiting:
                self._one_event_more()
            else:
                return False
        except (_OutOfTime, Broken):
            self.done.states = len(self._known)
            self._known, self._following, self._unfinished, self._waiting = set(), [], [], []
            return False
        finally:
            self.done.states = max(self.done.states, len(self._known))
            self.done.seconds += time.process_time() - begun
        self.done.depth += 1
        self.done.layers.append(len(self._known))
        return True

    def go_through(self, state: State) -> None:
        """Go on from a state until its calls are at their end, in every order, and no event more."""
        self._end = float("inf")
        try:
            self._reach(state, "")
            self._finish()
        except Broken:
            return
        self.done.states = len(self._known)

    def _one_event_more(self) -> None:
        layer, self._following = self._following, []
        waiting, self._waiting = self._waiting, []
        while layer:
            state = layer.pop()
            for name in self._world.events(state):
                try:
                    after = self._world.event(state, name)
                except Broken as e:
                    self._broken(e, name, state)
                    raise
                self._reach(after, "")
                self._finish()
        for state, name in waiting:
            self._go_on(state, name, gives_up=True)
            self._finish()

    def _reach(self, state: State, by: str) -> bool:
        """Come to a state by a call, "" by an event; tell whether it is a new one."""
        self.done.transitions += 1
        number = state.digested()
        if number in self._known:
            return False
        self._known.add(number)
        if time.process_time() > self._end:
            raise _OutOfTime
        if next(self._world.events(state), ""):
            self._following.append(state)
        if any(call.name != by for call in state.calls) and (not state.turn or state.turn != by):
            self._unfinished.append((state, by))
        return True

    def _go_on(self, state: State, name: str, gives_up: bool = False) -> None:
        machine = self._world.machine(state, name, lambda now, *_: self._reach(now, name), gives_up)
        try:
            machine.run()
        except Blocked as e:
            if not e.forever:
                self._waiting.append((state, name))
        except Broken as e:
            self._broken(e, (name, machine.steps + 1, gives_up), state)
            raise

    def _finish(self) -> None:
        """Let the calls that are on their way take their steps in every order."""
        while self._unfinished:
            state, by = self._unfinished.pop()
            for call in state.calls:
                if call.name != by and (state.turn == call.name or (not state.turn and not self._is_later(state, call))):
                    self._go_on(state, call.name)

    def _broken(self, error: Broken, step: Any, before: State) -> None:
        self.done.broken, self.done.path = str(error), path_of((step, before.came))

    @staticmethod
    def _is_later(state: State, call: Call) -> bool:
        """Tell whether another way leads to where a call's next step leads: there it comes before the last step."""
        footprint, by = state.last
        return footprint is not None and call.name < by and call.following is not None and not collide(footprint, call.following)


def path_of(came: Any) -> list[Any]:
    """Return a state's history as a list."""
    path = []
    while came is not None:
        path.append(came[0])
        came = came[1]
    return path[::-1]


def explore(
    seconds: float, depth: int = 99, orders: tuple[Order, ...] = ORDERS, roots: tuple[Root, ...] = ROOTS
) -> list[Explored]:
    """Explore each root in each order, all to one depth before one goes deeper, until a promise is broken.

    seconds: of CPU time, so that how deep it comes does not hang on what else runs.
    """
    found: list[Explored] = []
    end = time.process_time() + seconds
    with installed() as seat:
        for number, order in enumerate(orders):
            share = order.share / sum(one.share for one in orders[number:])
            until = time.process_time() + (end - time.process_time()) * share
            going = [Exploration(Small(root, seat, order)) for root in roots]
            found += [one.done for one in going]
            for _ in range(depth + 1):
                still = []
                for place, one in enumerate(going):
                    if one.deeper(time.process_time() + (until - time.process_time()) / (len(going) - place)):
                        still.append(one)
                    if one.done.broken:
                        keep(one.done)
                        return found
                going = still
    return found


def told(found: list[Explored]) -> str:
    """Return what was found, in words, one line for each root and order."""
    lines = [
        f"small world: {sum(one.states for one in found)} states, {sum(one.transitions for one in found)} steps between them"
    ]
    for order in ORDERS:
        depths = [one.depth for one in found if one.order == order.name]
        if depths:
            lines.append(f"  {order.name}: all of {min(depths)} events behind each begin")
    lines += [f"    {one}" for one in found]
    if any(one.broken for one in found):
        lines.append(f"  to walk it again: python -m tests.prove.small_world --walk {FILE}")
    return "\n".join(lines)


def keep(one: Explored) -> Path:
    """Write down a path that broke a promise, to be walked again."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps({"root": one.root, "order": one.order, "broken": one.broken, "path": one.path}))
    return FILE


def again(file: Path) -> str:
    """Walk a path that was written down; return what it breaks."""
    kept = json.loads(file.read_text())
    (root,) = [one for one in ROOTS if one.name == kept["root"]]
    (order,) = [one for one in ORDERS if one.name == kept["order"]]
    with installed() as seat:
        print(root)
        try:
            Small(root, seat, order).walk(kept["path"], print)
        except Broken as e:
            return str(e)
    return ""


def main() -> int:
    """Read the arguments and do what they say; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove.small_world", description="Explore the small world completely.")
    parser.add_argument("--minutes", type=float, default=10, help="of one core's time, for all of it (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=99, help="events at the most (default: as many as there is time for)")
    parser.add_argument("--orders", type=int, default=len(ORDERS), help="of how calls may mix, the first so many (default: all)")
    parser.add_argument("--walk", type=Path, help="walk a path that broke a promise once more, and print its steps")
    arguments = parser.parse_args()
    if arguments.walk:
        broken = again(arguments.walk)
        print(f"BROKEN: {broken}" if broken else "no promise is broken")
        return 1 if broken else 0
    found = explore(60 * arguments.minutes, arguments.depth, ORDERS[: arguments.orders])
    print(told(found))
    return 1 if any(one.broken for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
