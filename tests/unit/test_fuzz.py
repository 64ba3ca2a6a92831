"""Whatever stdin, environment and store hold: exit 0 with a result, or exit 1 with an error object, and no live address freed.

The calls run in one process inside a private node (tests.unit.answering), in the real code with its real defaults.

That this can fail was tried by breaking the package. Each of these was caught in one run: prevResult of any type let through,
elements of `ips` taken for objects, a NUL let through in a path, an escaped quote taken for the end of a string, undecodable text
in a message, a lock left open, no way back out of a pod's netns, and the judge without its last guard.
"""

import json
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.answers import VERSIONS, assert_result, the_error
from tests.support.cni_calls import Pod
from tests.support.node import Node
from tests.support.node_files import LOG_FILE
from tests.support.programs import ROOT, Programs
from tests.unit.answering import Answer, Example

SOCKET = "/run/answering"
SERVE = "import sys; from tests.unit import answering; answering.serve(sys.argv[1])"
LIVING, DEAD, NEW = "1" * 64, "dead" * 16, "9f3c2a77b0de41c58e6a1d20b4c7f935"
LIVING_ADDRESS = "10.9.0.2"
LIVING_NETNS, GONE_NETNS = "/run/netns/living", "/run/netns/gone"
ADDRESSES = ("10.9.0.3", "10.9.0.4", "10.9.0.254", "fd09::2", "fd09::ffff", "0.0.0.0", "::", "127.0.0.1")
CODES = {
    "ADD": {1, 4, 6, 7, 8},
    "DEL": {4, 6},
    "CHECK": {1, 4, 6, 7, 100, 101},
    "GC": {1, 4, 6, 7},
    "STATUS": {1, 6, 7, 50},
    "VERSION": set[int](),
}
SETTINGS = settings(max_examples=120, suppress_health_check=list(HealthCheck))

# JSON values

words = st.text(max_size=20) | st.sampled_from(
    ("/", "//", "..", "../x", "/run", "*", "net", "eth0", "\0", "\ud800", "true", "1.1.0", "9" * 40, '"', "\\", '\\"}')
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | words
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=8)


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = junk, times: int = 20) -> st.SearchStrategy[Any]:
    """Return a strategy that is the odd one once in so many times."""
    return st.sampled_from((usual,) * (times - 1) + (odd,)).flatmap(lambda one: one)


def at(usual: str) -> st.SearchStrategy[str]:
    """Return a strategy of directories, mostly the usual one."""
    return mostly(
        st.just(usual),
        st.sampled_from(
            ("/var/lib/cni/networks", "/var/lib/cni/elsewhere", "/nowhere/at/all", "/dev/null", "/proc/self/fd", "/run", "/a\0b")
        ),
        5,
    )


options = {
    "dataDir": mostly(at("/var/lib/cni/networks")),
    "networks": mostly(st.sampled_from((["net"], ["*"], ["net", "other"], [], ["nowhere"]))),
    "stateDir": mostly(at("/var/lib/cni/reaper")),
    "cacheDirs": mostly(st.lists(at("/var/lib/cni"), max_size=3)),
    "reapOn": mostly(
        st.just(["ADD", "DEL", "GC", "STATUS"]), st.lists(st.sampled_from(("ADD", "DEL", "GC", "STATUS")), max_size=4) | junk, 5
    ),
    "dryRun": mostly(st.just(False), st.just(True) | junk, 5),
    "graceSeconds": mostly(st.integers(300, 3000)),
    "budgetMs": mostly(st.integers(100, 1000), st.integers(1, 100) | junk),
    "logLevel": mostly(st.sampled_from(("warning", "info", "debug", "debug"))),
}
address_texts = st.sampled_from((LIVING_ADDRESS, *ADDRESSES)).map(lambda address: address + "/24") | words
results = st.fixed_dictionaries(
    {
        "cniVersion": mostly(st.sampled_from(VERSIONS)),
        "ips": mostly(st.lists(mostly(st.fixed_dictionaries({"address": mostly(address_texts)})), max_size=3)),
    },
    optional={"interfaces": junk, "x": junk},
)
ids = st.sampled_from((LIVING, DEAD, NEW))
attachments = st.lists(mostly(st.fixed_dictionaries({"containerID": mostly(ids), "ifname": mostly(st.just("eth0"))})), max_size=3)
configs = st.fixed_dictionaries(
    {
        "cniVersion": mostly(st.just(VERSIONS[-1]), st.sampled_from(VERSIONS) | junk, 10),
        "name": mostly(st.just("net")),
        "type": st.just("cni-reaper"),
        "logFile": mostly(st.just(LOG_FILE)),
        "prevResult": mostly(results, junk | words | st.integers() | st.lists(junk, max_size=2), 4),
    },
    optional={
        "cni.dev/valid-attachments": mostly(attachments),
        "cni.dev/attachments": mostly(attachments),
        "runtimeConfig": junk,
        **options,
    },
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Draw what stands on stdin: mostly a configuration as it is, or one with a few bytes lost, changed or put in."""
    document = json.dumps(draw(configs), ensure_ascii=True, indent=draw(st.sampled_from((None, None, 1)))).encode()
    for _ in range(draw(st.sampled_from((0,) * 10 + (1, 2)))):
        place, length = draw(st.integers(0, len(document))), draw(st.integers(0, 9))
        inserted = draw(
            st.sampled_from((b"", b"\0", b"\xff", b'"', b"\\", b"{", b"]", b",", document[place : place + length]))
            | st.binary(max_size=5)
        )
        document = document[:place] + inserted + document[place + draw(st.integers(0, length)) :]
    return document


stdins = mostly(documents(), st.binary(max_size=200) | junk.map(lambda value: json.dumps(value).encode()))

# Environment

values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20).map(
    lambda text: text.encode()
) | st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b""))
netns_paths = st.sampled_from(
    (*(LIVING_NETNS,) * 6, GONE_NETNS, "/proc/self/ns/net", "/proc/1/ns/net", "/run", "relative", "/proc/self/ns/mnt")
)


def variables(command: str) -> st.SearchStrategy[dict[bytes, bytes]]:
    """Return a strategy of environments: mostly complete, now and then with a variable missing or odd."""
    usual = {
        b"CNI_CONTAINERID": ids,
        b"CNI_NETNS": netns_paths,
        b"CNI_IFNAME": st.sampled_from(("eth0", "eth0", "net1")),
        b"CNI_PATH": st.just("/opt/cni/bin"),
    }
    complete = {name: mostly(texts.map(lambda text: text.encode()), values | st.just(b"")) for name, texts in usual.items()}
    pod = st.sampled_from((b"IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c", b";=;", b"K8S_POD_UID="))
    more = {b"CNI_ARGS": pod | values, b"CNI_NETNS_OVERRIDE": st.sampled_from((b"1", b"true", b"0")) | values}
    required = st.fixed_dictionaries({b"CNI_COMMAND": st.just(command.encode()), **complete}, optional=more)
    return mostly(required, st.fixed_dictionaries({b"CNI_COMMAND": st.just(command.encode())}, optional={**complete, **more}))


# What the node holds

USUAL = (
    f"{DEAD}\r\neth0",
    f"{DEAD}\r\nnet1",
    DEAD,
    f"{LIVING}\r\nnet1",
    LIVING,
    f"{NEW}\r\neth0",
    "",
    "\0" * 8,
    "reserved",
    f"{DEAD}\neth0\n",
)
contents = mostly(st.sampled_from([text.encode() for text in USUAL]), values, 8)
record_fields = st.fixed_dictionaries(
    {
        "v": mostly(st.just(1)),
        "netns": mostly(st.sampled_from((LIVING_NETNS, GONE_NETNS, "/run", "/proc/1/ns/net"))),
        "bootID": mostly(st.just("another boot")),
        "dev": mostly(st.just(4)),
        "ino": mostly(st.integers(4026531840, 4026532800)),
        "ctime": mostly(st.integers(0, 2**62)),
    },
    optional={
        "boottime": mostly(st.floats(0, 1e6)),
        "nsID": mostly(st.integers(0, 400)),
        "head": mostly(st.booleans()),
        "pod": mostly(st.dictionaries(st.sampled_from(("uid", "name", "namespace")), mostly(words))),
        "deleted": mostly(st.booleans()),
    },
)
record_bytes = mostly(record_fields.map(lambda fields: json.dumps({"boottime": 1.0, **fields}).encode()), values)
networks = st.sampled_from(("net", "net", "net", "other"))
reservations = st.dictionaries(
    st.tuples(networks, st.sampled_from((*ADDRESSES, "last_reserved_ip.0", "note.txt", "1.2.3"))).map("/".join),
    contents,
    min_size=2,
    max_size=6,
)
owners = st.tuples(ids, st.sampled_from(("eth0", "eth0", "net1"))).map(":".join)
proven_views = mostly(st.none(), st.just(b"") | values, 10)
records = st.dictionaries(st.tuples(networks, owners).map("/".join), record_bytes, max_size=4)


class Nest:
    """The process that answers, and what of the node it knows: a living pod whose address is configured and recorded."""

    def __init__(self, connection: Connection, record: bytes, views: bytes) -> None:
        self._connection = connection
        self._record = record
        self._views = views

    def answer(
        self,
        environment: dict[bytes, bytes],
        stdin: bytes,
        reserved: dict[str, bytes],
        recorded: dict[str, bytes],
        views: bytes | None = None,
    ) -> Answer:
        """Run one call beside the living pod's reservation, and its record unless another is given in its place.

        views: None for those that an ADD has proven.
        """
        reserved = {**reserved, f"net/{LIVING_ADDRESS}": f"{LIVING}\r\neth0".encode()}
        recorded = {f"net/{LIVING}:eth0": self._record, **recorded}
        self._connection.send(Example(environment, stdin, reserved, recorded, self._views if views is None else views))
        answer: Answer = self._connection.recv()
        return answer


@pytest.fixture(scope="module")
def nest(programs: Programs) -> Iterator[Nest]:
    """A private node with one living pod, and the answering process in it."""
    with Node(programs) as node:
        pod = Pod(node, "living", node.create_netns(LIVING_NETNS))
        node.add_address("lo", LIVING_ADDRESS + "/32", pod.path)
        conf = {"cniVersion": "1.1.0", "name": "net", "type": "cni-reaper"}
        node.plugin("ADD", conf, netns=pod, container_id=LIVING).check()
        record = node.path(f"/var/lib/cni/reaper/net/{LIVING}:eth0").read_bytes()
        views = node.path("/run/cni-reaper/views").read_bytes()
        node.start([sys.executable, "-c", SERVE, SOCKET], env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
        with connected(str(node.path(SOCKET))) as connection:
            yield Nest(connection, record, views)


def connected(socket: str) -> Connection:
    """Connect to the answering process as soon as it listens."""
    for _ in range(5000):
        try:
            return Client(socket, "AF_UNIX")
        except OSError:
            threading.Event().wait(0.002)
    raise AssertionError("the answering process does not listen")


def assert_protocol(command: str, answer: Answer) -> None:
    """The answer is one that a runtime can read, names no defect of ours, and leaves the process as it was."""
    assert not answer.raised, answer.raised
    assert answer.descriptors == 0, "a descriptor stays open"
    assert not answer.moved, "it stays in another netns"
    assert "a defect of cni-reaper" not in answer.log
    assert answer.left.get(f"net/{LIVING_ADDRESS}") == f"{LIVING}\r\neth0".encode(), f"a live address was freed: {answer.log}"
    if answer.code == 0:
        assert_result(command, answer.out)
        return
    assert answer.code == 1
    error = the_error(answer.out)
    assert error["code"] in CODES[command], error


@pytest.mark.parametrize("command", CODES)
def test_every_answer_is_of_the_protocol(nest: Nest, command: str) -> None:
    """Odd configurations, environments, stores and records get a result or an error object, and free no live address."""

    @SETTINGS
    @given(variables(command), stdins, reservations, records, proven_views)
    def answers(
        environment: dict[bytes, bytes], stdin: bytes, reserved: dict[str, bytes], recorded: dict[str, bytes], views: bytes | None
    ) -> None:
        assert_protocol(command, nest.answer(environment, stdin, reserved, recorded, views))

    answers()


def test_any_other_command_is_named_an_error(nest: Nest) -> None:
    """A CNI_COMMAND that is none gets error 4, whatever comes with it."""

    @SETTINGS
    @given(variables("ADD"), values.filter(lambda value: value.decode("utf-8", "replace") not in (*CODES, "")), stdins)
    def answers(environment: dict[bytes, bytes], command: bytes, stdin: bytes) -> None:
        answer = nest.answer({**environment, b"CNI_COMMAND": command}, stdin, {}, {})
        assert answer.code == 1, answer.raised
        assert the_error(answer.out)["code"] == 4

    answers()
