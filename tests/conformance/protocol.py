"""The table of the CNI protocol, see test_protocol.py."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance.answers import VERSIONS, assert_result, text_of, the_document, the_error
from tests.support.cni_calls import BIN
from tests.support.commands import Ran

INCOMPATIBLE, ENVIRONMENT, IO, DECODING, CONFIG, OWN_NETNS, UNAVAILABLE = 1, 4, 5, 6, 7, 8, 50
LATEST = VERSIONS[-1]
SINCE = {"ADD": "0.1.0", "DEL": "0.1.0", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
}
VERBS = tuple(REQUIRED)
STRICT = ("ADD", "CHECK", "GC", "STATUS")
"""The verbs on which an unusable cniVersion, name or prevResult is an error; DEL must let the rest of the chain release."""
NEITHER = "neither SPEC nor skel: a failing DEL would keep the plugins behind us from releasing"
REAPER = f"{BIN}/cni-reaper"
MEGABYTES_10 = 10 * 1024 * 1024

COMPLETE = {
    "CNI_CONTAINERID": "9f3c2a77b0de41c58e6a1d20b4c7f935",
    "CNI_NETNS": "/run/netns/pod",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1",
    "CNI_PATH": BIN,
}
OF_NO_CONTAINER = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": "", "CNI_ARGS": "", "CNI_PATH": BIN}
"""What libcni exports with GC and STATUS."""
RESULT: dict[str, Any] = {"ips": [{"address": "10.9.0.2/24"}], "dns": {}}
BAD_OPTIONS: dict[str, Any] = {
    "dataDir": "relative",
    "networks": [7],
    "stateDir": 7,
    "cacheDirs": "/var/lib/cni",
    "reapOn": ["NEVER"],
    "dryRun": "true",
    "graceSeconds": 299,
    "budgetMs": 0.5,
    "logFile": ["/var/log/x"],
    "logLevel": "loud",
}


@dataclass(frozen=True)
class Row:
    """One line of the specification.

    what: says in words what is special about the call; environment: all CNI_* variables but CNI_COMMAND; code: the CNI error
    code, None for exit 0; names: texts that the error must contain; answer: the result an ADD or VERSION must give;
    speaks: the cniVersion of the error object; follows: who is followed where SPEC and skel differ.
    """

    command: str | None
    what: str
    environment: Mapping[str, str]
    stdin: bytes
    code: int | None
    names: tuple[str, ...] = ()
    answer: Any = None
    speaks: str = ""
    follows: str = ""

    def __str__(self) -> str:
        return ascii(f"{self.command} {self.what}")[1:-1]


def given(command: str, **changes: str | None) -> dict[str, str]:
    """Return the environment as libcni gives it, with changes; None leaves a variable out."""
    variables: dict[str, str | None] = {**(COMPLETE if "CNI_IFNAME" in REQUIRED[command] else OF_NO_CONTAINER), **changes}
    return {name: value for name, value in variables.items() if value is not None}


def members(command: str, **changes: Any) -> dict[str, Any]:
    """Return the configuration as libcni gives it, with changes; `...` leaves a member out."""
    config: dict[str, Any] = {"cniVersion": LATEST, "name": "net", "type": "cni-reaper"}
    if command in ("CHECK", "DEL"):
        config["prevResult"] = {"cniVersion": LATEST, **RESULT}
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}


def config(command: str, **changes: Any) -> bytes:
    """Return the bytes of `members`."""
    return json.dumps(members(command, **changes)).encode()


def works(command: str, what: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None, **more: Any) -> Row:
    """Return a row that exits 0; ADD's answer is that of the head of a 1.1.0 chain unless said otherwise."""
    more.setdefault("answer", {"cniVersion": LATEST} if command == "ADD" else None)
    stdin = config(command) if stdin is None else stdin
    return Row(command, what, given(command) if environment is None else environment, stdin, None, **more)


def fails(
    command: str,
    what: str,
    code: int,
    *names: str,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> Row:
    """Return a row that exits 1 with an error of this code that names these texts."""
    stdin = config(command) if stdin is None else stdin
    return Row(command, what, given(command) if environment is None else environment, stdin, code, names, **more)


def every_verb_at_every_version() -> Iterator[Row]:
    """A complete call of each verb, in each version of the protocol that has it, and in those that do not."""
    for command in VERBS:
        for version in VERSIONS:
            stdin = config(command, cniVersion=version)
            answer = {"cniVersion": version} if command == "ADD" else None
            if VERSIONS.index(version) >= VERSIONS.index(SINCE[command]):
                yield works(command, f"at {version}", stdin, answer=answer)
            else:
                yield fails(command, f"at {version}", INCOMPATIBLE, command, version, SINCE[command], stdin=stdin, speaks=version)
    for version in VERSIONS:
        echoed = {"cniVersion": version, "supportedVersions": list(VERSIONS)}
        yield Row("VERSION", f"at {version}", {}, json.dumps({"cniVersion": version}).encode(), None, answer=echoed)
        previous = {"cniVersion": version, "x": 1, **RESULT}
        yield works(
            "ADD", f"behind another plugin at {version}", config("ADD", cniVersion=version, prevResult=previous), answer=previous
        )


def missing_variables() -> Iterator[Row]:
    """Each required variable missing or empty, and all of them at once, in each version; none that is optional is missed."""
    for command, required in REQUIRED.items():
        for version in VERSIONS[VERSIONS.index(SINCE[command]) :]:
            stdin = config(command, cniVersion=version)
            for name in required:
                for how, value in (("without", None), ("with empty", ""))[: 2 if version == LATEST else 1]:
                    environment = given(command, **{name: value})
                    yield fails(command, f"{how} {name} at {version}", ENVIRONMENT, name, stdin=stdin, environment=environment)
            if required:
                what = f"without any variable at {version}"
                yield fails(
                    command,
                    what,
                    ENVIRONMENT,
                    *required,
                    stdin=stdin,
                    environment={},
                    follows="skel: all that are missing, not just the first",
                )
    for command in ("ADD", "DEL", "CHECK", "STATUS"):
        follows = "SPEC, section 2: CNI_PATH is for plugins that run others; skel wants it on every verb but VERSION"
        yield works(command, "without CNI_PATH", environment=given(command, CNI_PATH=None), follows=follows)
    for command in ("ADD", "DEL", "CHECK"):
        yield works(command, "without CNI_ARGS", environment=given(command, CNI_ARGS=None))
        for args in ("K8S_POD_NAME", ";;=;", "A=B=C;", "=", "K8S_POD_NAME=\udcff"):
            follows = "SPEC: CNI_ARGS is deprecated, and checking it is for those who use it"
            yield works(command, f"with CNI_ARGS {args!a}", environment=given(command, CNI_ARGS=args), follows=follows)
    yield works("DEL", "without CNI_NETNS", environment=given("DEL", CNI_NETNS=None))
    yield works("DEL", "with empty CNI_NETNS", environment=given("DEL", CNI_NETNS=""))
    for command in ("GC", "STATUS"):
        bare = {"CNI_PATH": BIN} if command == "GC" else {}
        yield works(command, "with nothing but what it requires", environment=bare)
        odd = given(command, CNI_CONTAINERID="../x", CNI_IFNAME="a/b", CNI_NETNS="/nowhere")
        yield works(command, "with an invalid container, which is not asked for", environment=odd)
    everything_wrong = given("ADD", CNI_NETNS=None, CNI_CONTAINERID="../x", CNI_IFNAME="a/b")
    follows = "neither: skel stops at the first invalid one, which costs the operator a round each"
    yield fails(
        "ADD", "with all wrong at once", ENVIRONMENT, "CNI_NETNS", "../x", "a/b", environment=everything_wrong, follows=follows
    )


BAD_NAMES = {
    "with a way up": "../x",
    "that is a way up": "..",
    "that is a dot": ".",
    "with a slash": "a/b",
    "with a leading dot": ".hidden",
    "with a leading dash": "-rf",
    "with a leading underscore": "_x",
    "with a blank": "a b",
    "with a newline at the end": "abc\n",
    "with a carriage return": "abc\r\neth1",
    "with a colon": "a:b",
    "with an umlaut": "b\u00fccher",
    "with an Arabic digit": "\u0661\u0662\u0663",
    "of a full-width letter": "\uff21bc",
    "with a star": "*",
}
GOOD_NAMES = {
    "with every allowed sign": "a.B-c_9",
    "of one digit": "0",
    "with dots inside": "a..b",
    "of 300 characters": "a" * 300,
}
BAD_IFNAMES = {
    "of 16 characters": "a" * 16,
    "of 15 characters and 30 bytes": "\u00e4" * 15,
    "that is a dot": ".",
    "that is a way up": "..",
    "with a way up": "../x",
    "with a slash": "a/b",
    "with a colon": "eth0:1",
    "with a blank": "eth 0",
    "with a tab": "eth\t0",
    "with a newline at the end": "eth0\n",
    "with a no-break space": "eth\u00a00",
}
GOOD_IFNAMES = {
    "of 15 characters": "a" * 15,
    "of 7 umlauts": "\u00e4" * 7,
    "with signs": "a.b-c@d",
    "that is no UTF-8": "eth\udcff",
    "with a leading dash": "-x",
}


def names_by_the_spec() -> Iterator[Row]:
    """Container ID, ifname and network name by the SPEC's rules; skel has the same."""
    for command in ("ADD", "DEL", "CHECK"):
        for how, name in BAD_NAMES.items():
            environment = given(command, CNI_CONTAINERID=name)
            yield fails(command, f"with a container ID {how}", ENVIRONMENT, "CNI_CONTAINERID", environment=environment)
        for how, name in GOOD_NAMES.items():
            yield works(command, f"with a container ID {how}", environment=given(command, CNI_CONTAINERID=name))
        for how, name in BAD_IFNAMES.items():
            yield fails(command, f"with an ifname {how}", ENVIRONMENT, "CNI_IFNAME", environment=given(command, CNI_IFNAME=name))
        for how, name in GOOD_IFNAMES.items():
            yield works(command, f"with an ifname {how}", environment=given(command, CNI_IFNAME=name))
    for command in STRICT:
        for how, name in {**BAD_NAMES, "with a NUL": "a\0b"}.items():
            yield fails(command, f"with a network name {how}", CONFIG, "network name", stdin=config(command, name=name))
        for how, name in GOOD_NAMES.items():
            yield works(command, f"with a network name {how}", config(command, name=name))
        for version in VERSIONS[VERSIONS.index(SINCE[command]) :]:
            stdin = config(command, name=..., cniVersion=version)
            yield fails(
                command, f"without a network name at {version}", CONFIG, "missing network name", stdin=stdin, speaks=version
            )
        yield fails(command, "with an empty network name", CONFIG, "missing network name", stdin=config(command, name=""))
        yield fails(
            command,
            "with a null network name",
            CONFIG,
            "missing network name",
            stdin=config(command, name=None),
            follows="skel: null is absent",
        )
        for value in (7, True, ["net"], {"net": 1}):
            what = f"with a network name that is {json.dumps(value)}"
            yield fails(command, what, DECODING, "network name", "string", stdin=config(command, name=value))


BROKEN = {
    "that is empty": b"",
    "of blanks": b" \r\n\t ",
    "that is a word": b"hello",
    "that is YAML": b"cniVersion: 1.1.0\nname: net\n",
    "that is truncated": config("CHECK")[:-9],
    "that is truncated in a string": b'{"cniVersion":"1.1.0","name":"ne',
    "with a second document": config("CHECK") + b"{}",
    "with a comma too many": b'{"cniVersion":"1.1.0","name":"net",}',
    "with a NUL byte": b'{"cniVersion":"1.1.0","name":"n\0t"}',
    "with a NUL byte behind": config("CHECK") + b"\0",
    "that is no UTF-8": b'{"cniVersion":"1.1.0","name":"net","x":"\xff"}',
    "that is UTF-16": config("CHECK").decode().encode("utf-16"),
    "with a byte order mark": b"\xef\xbb\xbf" + config("CHECK"),
    "with half a surrogate pair": b'{"cniVersion":"1.1.0","name":"net","x":"\\ud800"}',
    "with NaN": b'{"cniVersion":"1.1.0","name":"net","x":NaN}',
    "with a number beyond all doubles": b'{"cniVersion":"1.1.0","name":"net","x":1e400}',
    "nested 100000 deep": b'{"cniVersion":"1.1.0","name":"net","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "of 10 MB that is truncated": b'{"cniVersion":"1.1.0","name":"net","x":"' + b"x" * MEGABYTES_10,
    "of 10 MB of brackets": b"[" * MEGABYTES_10,
}
LENIENT = {
    "that is no UTF-8": "SPEC: JSON is UTF-8; Go puts U+FFFD in its place",
    "with half a surrogate pair": "SPEC: JSON is Unicode; Go puts U+FFFD in its place",
}
NO_OBJECTS = {"that is a list": b"[]", "that is a number": b"7", "that is a text": b'"net"', "that is true": b"true"}


def stdin_documents() -> Iterator[Row]:
    """Stdin that is no JSON object is a broken call, also on DEL; what is odd and yet JSON is no error."""
    for command in VERBS:
        for how, stdin in BROKEN.items():
            yield fails(command, f"with stdin {how}", DECODING, "stdin", "JSON", stdin=stdin, follows=LENIENT.get(how, ""))
        for how, stdin in NO_OBJECTS.items():
            yield fails(command, f"with stdin {how}", DECODING, "JSON object", stdin=stdin)
        if command in STRICT:
            follows = "skel: Go reads null as an empty object"
            yield fails(command, "with stdin that is null", CONFIG, "missing network name", stdin=b"null", follows=follows)
        else:
            yield works(command, "with stdin that is null", b"null", follows=NEITHER)
        whole = members(command)
        yield works(command, "with blanks around stdin", b" \n" + json.dumps(whole, indent=4).encode() + b"\r\n\t ")
        yield works(
            command,
            "with members that nobody knows",
            config(command, **{"capabilities": {"x": True}, "runtimeConfig": 7, "\u0000": None}),
        )
        yield works(command, "with a member of 10 MB", config(command, x="y" * MEGABYTES_10))
        yield works(command, "with 500 levels of nesting", config(command, x=nested(500)))
        twice = json.dumps(whole).encode()[:-1] + b',"cniVersion":"9.9.9","name":"../x","cniVersion":"1.1.0","name":"net"}'
        yield works(command, "with keys that stand there twice", twice, follows="skel: the last one counts")
    upper = config("ADD", cniVersion=..., CNIVERSION="1.1.0")
    follows = "SPEC: keys are as they are spelt; Go takes them in any case. Without cniVersion it is 0.1.0"
    yield works("ADD", "with CNIVERSION", upper, answer={"cniVersion": "0.1.0"}, follows=follows)
    for command in STRICT:
        yield fails(
            command, "with NAME", CONFIG, "missing network name", stdin=config(command, name=..., NAME="net"), follows=follows
        )


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def unusable_versions() -> Iterator[Row]:
    """A version we do not speak is error 1 that names both sides; DEL goes through. No version is 0.1.0."""
    for version in ("9.9.9", "1.2.0", "0.5.0", "1.1", "1.1.0 ", "v1.1.0", "1.1.0\n", "1.1.0-rc1", "\u0661.1.0", "null"):
        for command in STRICT:
            names = (version.strip(), LATEST, "0.1.0")
            what = f"with cniVersion {version!a}"
            follows = "skel: exact match against the list"
            yield fails(
                command, what, INCOMPATIBLE, *names, stdin=config(command, cniVersion=version), speaks=LATEST, follows=follows
            )
        yield works("DEL", f"with cniVersion {version!a}", config("DEL", cniVersion=version), follows=NEITHER)
    for value in (1.0, 110, True, ["1.1.0"], {"1.1.0": 1}):
        for command in STRICT:
            what = f"with a cniVersion that is {json.dumps(value)}"
            yield fails(command, what, DECODING, "cniVersion", "string", stdin=config(command, cniVersion=value))
        yield works("DEL", f"with a cniVersion that is {json.dumps(value)}", config("DEL", cniVersion=value), follows=NEITHER)
    absent: tuple[tuple[str, Any], ...] = (("without", ...), ("with empty", ""), ("with null", None))
    for how, no_version in absent:
        follows = "skel: pkg/types/create, a configuration without cniVersion is 0.1.0"
        yield works(
            "ADD", f"{how} cniVersion", config("ADD", cniVersion=no_version), answer={"cniVersion": "0.1.0"}, follows=follows
        )
        yield works("DEL", f"{how} cniVersion", config("DEL", cniVersion=no_version))
        for command in ("CHECK", "GC", "STATUS"):
            stdin = config(command, cniVersion=no_version)
            yield fails(command, f"{how} cniVersion", INCOMPATIBLE, command, "0.1.0", stdin=stdin)


def commands() -> Iterator[Row]:
    """A command that is none is error 4 that names it, whatever comes with it."""
    for command in (
        "FOO",
        "add",
        "Add",
        "version",
        " ADD",
        "ADD ",
        "ADD\n",
        "ADD,DEL",
        "CNI_ADD",
        "\u00c4DD",
        "ADD\udcff",
        "0",
        "-",
    ):
        follows = "skel says the same once stdin is good; what stdin holds is no matter where nobody would read it"
        for how, stdin in (("", config("ADD")), (" and broken stdin", b"{")):
            yield Row(command, f"as {command!a}{how}", COMPLETE, stdin, ENVIRONMENT, ("CNI_COMMAND",), follows=follows)
    yield Row("FOO", "and no other variable", {}, b"", ENVIRONMENT, ("FOO",))
    for command in ("ADD", "DEL", "CHECK", "GC"):
        environment = given(command, **dict.fromkeys(REQUIRED[command]))
        follows = "skel: the environment is looked at first"
        yield fails(
            command,
            "with neither variables nor JSON",
            ENVIRONMENT,
            *REQUIRED[command],
            stdin=b"{",
            environment=environment,
            follows=follows,
        )


def previous_results() -> Iterator[Row]:
    """A prevResult goes through ADD with all it has; one that is no object is an error on every verb but DEL."""
    whole: dict[str, dict[str, Any]] = {
        "with members that nobody knows": {"cniVersion": LATEST, "z": {"y": [None, {"x": 1e-7}]}, "a": "\u2028", **RESULT},
        "with numbers of any size": {"cniVersion": LATEST, "big": 2**64 - 1, "small": -(2**63), "float": 0.1, "huge": 2.0**200},
        "with text that looks like JSON": {"cniVersion": LATEST, "x": 'a"}],{\\', "\\": '\\"', "": ""},
        "500 levels deep": {"cniVersion": LATEST, "x": nested(500)},
        "900 levels deep": {"cniVersion": LATEST, "x": nested(900)},
        "of 10 MB": {"cniVersion": LATEST, "x": ["y" * 1000] * 10_000},
        "with another cniVersion": {"cniVersion": "0.4.0", **RESULT},
    }
    for how, previous in whole.items():
        yield works("ADD", f"with prevResult {how}", config("ADD", prevResult=previous), answer=previous)
    patched: dict[str, tuple[Any, Any]] = {
        "without cniVersion": (RESULT, {"cniVersion": LATEST, **RESULT}),
        "that is empty": ({}, {"cniVersion": LATEST}),
        "that is null": (None, {"cniVersion": LATEST}),
    }
    for how, (before, answer) in patched.items():
        yield works("ADD", f"with prevResult {how}", config("ADD", prevResult=before), answer=answer)
    twice = (
        b'{"prevResult":{"cniVersion":"1.1.0","x":1},"cniVersion":"1.1.0","name":"net","prevResult":{"cniVersion":"1.1.0","x":2}}'
    )
    yield works(
        "ADD", "with prevResult twice", twice, answer={"cniVersion": "1.1.0", "x": 2}, follows="skel: the last one counts"
    )
    escaped = b'{"cniVersion":"1.1.0","name":"net","x":"\\\\","prevR\\u0065sult":{"cniVersion":"1.1.0","x":"\\\\\\""}}'
    yield works("ADD", "with prevResult spelt with an escape", escaped, answer={"cniVersion": "1.1.0", "x": '\\"'})
    for value in ("x", 7, True, [], [{"cniVersion": LATEST}]):
        for command in STRICT:
            what = f"with prevResult that is {json.dumps(value)}"
            yield fails(command, what, DECODING, "prevResult", "object", stdin=config(command, prevResult=value))
        yield works("DEL", f"with prevResult that is {json.dumps(value)}", config("DEL", prevResult=value), follows=NEITHER)
    absent: tuple[tuple[str, Any], ...] = (("without", ...), ("with null for", None))
    for how, nothing in absent:
        yield works("DEL", f"{how} prevResult", config("DEL", prevResult=nothing))
        for version in VERSIONS[VERSIONS.index("0.4.0") :]:
            stdin = config("CHECK", prevResult=nothing, cniVersion=version)
            yield fails("CHECK", f"{how} prevResult at {version}", CONFIG, "prevResult", stdin=stdin, speaks=version)
    odd_addresses = ("", "/", "..", "../x/24", "10.9.0.2\0/24", "\ud7ff", "1." * 400, ":")
    odd: dict[str, dict[str, Any]] = {
        "that has no members": {},
        "whose ips are null": {"ips": None},
        "whose ips are a text": {"ips": "10.9.0.2"},
        "whose ips are odd": {"ips": [None, 7, [], {}, {"address": 7}, {"address": None}]},
        "whose addresses are odd": {"ips": [{"address": one} for one in odd_addresses]},
        "in the form of 0.2.0": {"ip4": {"ip": "10.9.0.2/24"}},
    }
    for how, previous in odd.items():
        yield works(
            "ADD", f"with prevResult {how}", config("ADD", prevResult=previous), answer={"cniVersion": LATEST, **previous}
        )
        for command in ("CHECK", "DEL"):
            yield works(command, f"with prevResult {how}", config(command, prevResult=previous))


def options() -> Iterator[Row]:
    """GC is asked to reap, so it names every wrong option at once; no other verb fails for one."""
    yield fails("GC", "with every option wrong", CONFIG, *BAD_OPTIONS, stdin=config("GC", **BAD_OPTIONS))
    for command in ("ADD", "DEL", "CHECK", "STATUS"):
        follows = "neither: a typing mistake in a conflist must not stop a node"
        yield works(command, "with every option wrong", config(command, **BAD_OPTIONS), follows=follows)
    wrong: dict[str, tuple[Any, ...]] = {
        "dataDir": (7, None, "", "relative", ["/a"], {}, "/a\0b"),
        "networks": ("net", None, {}, [7], [""], ["../x"], ["net", None]),
        "stateDir": (False, None, "", "./here"),
        "cacheDirs": ("/var/lib/cni", None, [""], ["relative"], [None], {}),
        "reapOn": ("ADD", None, ["add"], ["CHECK"], [1], {}),
        "dryRun": (0, 1, "true", None, [], "no"),
        "graceSeconds": (299, 0, -1, "1500", 1500.0, None, True, 10**40, []),
        "budgetMs": (0, -1, "500", 0.5, None, True),
        "logFile": (7, None, "relative.log", [], "/a\0b"),
        "logLevel": ("INFO", "trace", "", 7, None, [], {}),
        "dryrun": (True,),
        "DATADIR": ("/var/lib/cni/networks",),
    }
    for key, values in wrong.items():
        for value in values:
            what = f"with {key} that is {json.dumps(value)}"
            yield fails("GC", what, CONFIG, key, stdin=config("GC", **{key: value}))
            yield works("ADD", what, config("ADD", **{key: value}))
    right: dict[str, tuple[Any, ...]] = {
        "dataDir": ("/nowhere", "/var/lib/cni/networks/"),
        "networks": ([], ["*"], ["net", "other"]),
        "stateDir": ("/run/state",),
        "cacheDirs": ([], ["/nowhere"]),
        "reapOn": ([], ["ADD", "DEL", "GC", "STATUS"]),
        "dryRun": (True, False),
        "graceSeconds": (300, 10**18),
        "budgetMs": (1, 10**18),
        "logFile": ("/nowhere/to/be/found.log", "/dev/full", ""),
        "logLevel": ("error", "warning", "info", "debug"),
        "logFiles": (7,),
    }
    for key, values in right.items():
        for value in values:
            for command in ("ADD", "GC"):
                yield works(command, f"with {key} that is {json.dumps(value)}", config(command, **{key: value}))


def namespaces() -> Iterator[Row]:
    """CNI_NETNS may be anything; only our own netns is refused, and only by ADD."""
    for how, path in {
        "that is gone": "/run/netns/gone",
        "that is relative": "netns/pod",
        "that is a directory": "/run",
        "that is a device": "/dev/full",
        "below a file": "/etc/hostname/x",
        "that is too long": "/" + "x" * 5000,
        "that is no UTF-8": "/run/netns/\udcff",
        "of a process that is gone": "/proc/4194304/ns/net",
        "that is another namespace": "/proc/self/ns/mnt",
    }.items():
        for command in ("ADD", "DEL", "CHECK"):
            yield works(command, f"with a netns {how}", environment=given(command, CNI_NETNS=path))
    own = "/proc/self/ns/net"
    for override in (None, "", "0", "false", "yes", "1x"):
        environment = given("ADD", CNI_NETNS=own, CNI_NETNS_OVERRIDE=override)
        follows = "skel since v1.2.0, but before any work: skel answers result and error, two documents"
        yield fails(
            "ADD",
            f"in its own netns, CNI_NETNS_OVERRIDE {override!r}",
            OWN_NETNS,
            "CNI_NETNS",
            environment=environment,
            follows=follows,
        )
    for override in ("1", "true", "TRUE", "True"):
        what = f"in its own netns, CNI_NETNS_OVERRIDE {override!r}"
        yield works("ADD", what, environment=given("ADD", CNI_NETNS=own, CNI_NETNS_OVERRIDE=override))
    yield works("DEL", "in its own netns", environment=given("DEL", CNI_NETNS=own), follows="SPEC; skel answers 8. " + NEITHER)
    yield works("CHECK", "in its own netns", environment=given("CHECK", CNI_NETNS=own))


def attachments_of_gc() -> Iterator[Row]:
    """The list of GC has two names; absent and null are no list; what is no list of attachments is error 7 that names the key."""
    newer, older = "cni.dev/valid-attachments", "cni.dev/attachments"
    one: dict[str, Any] = {"containerID": "9f3c2a77b0de", "ifname": "eth0"}
    right: dict[str, dict[str, Any]] = {
        "no list": {},
        "null": {newer: None},
        "null twice": {newer: None, older: None},
        "an empty list": {newer: []},
        "a list": {newer: [one]},
        "a list with more in it": {newer: [{**one, "netns": 7, "x": None}]},
        "names that are no names": {newer: [{"containerID": "../x\0", "ifname": ""}]},
        "10000 attachments": {newer: [{"containerID": f"id{i}", "ifname": "eth0"} for i in range(10_000)]},
        "the older key": {older: [one]},
        "both keys, as libcni >= 1.2.3 sends them": {newer: [one], older: [one]},
        "the newer key null": {newer: None, older: [one]},
    }
    for how, lists in right.items():
        yield works("GC", f"with {how}", config("GC", **lists))
    no_elements: list[Any] = [
        None,
        "id",
        [],
        {},
        {"containerID": "x"},
        {"ifname": "eth0"},
        {**one, "ifname": 7},
        {**one, "containerID": None},
    ]
    for key in (newer, older):
        for value in ("x", 7, True, {}, one, *([one, element] for element in no_elements)):
            yield fails("GC", f"with {key} that is {json.dumps(value)}", CONFIG, key, stdin=config("GC", **{key: value}))
    everything = {newer: [7], **BAD_OPTIONS}
    yield fails("GC", "with list and options wrong", CONFIG, newer, *BAD_OPTIONS, stdin=config("GC", **everything))


def version_verb() -> Iterator[Row]:
    """VERSION never fails: it echoes a version we speak and answers the newest to anything else."""
    dummies = dict.fromkeys(("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "dummy")
    newest = {"cniVersion": LATEST, "supportedVersions": list(VERSIONS)}
    yield Row("VERSION", "as libcni asks", dummies, b'{"cniVersion":"1.1.0"}', None, answer=newest)
    follows = "SPEC echoes, skel never reads stdin: we read what is there and mind nothing"
    for how, stdin in {
        **BROKEN,
        **NO_OBJECTS,
        "that is null": b"null",
        "of an unknown version": b'{"cniVersion":"9.9.9"}',
        "without a version": b'{"name":"net"}',
        "with a null version": b'{"cniVersion":null}',
        "with a version of a wrong type": b'{"cniVersion":["1.1.0"]}',
        "with a version that is an object": b'{"cniVersion":{}}',
    }.items():
        yield Row("VERSION", f"with stdin {how}", {}, stdin, None, answer=newest, follows=follows)
    invalid = {"CNI_CONTAINERID": "../x", "CNI_IFNAME": "a/b", "CNI_ARGS": "=;="}
    yield Row(
        "VERSION",
        "with an invalid environment",
        invalid,
        b'{"cniVersion":"0.4.0"}',
        None,
        answer={**newest, "cniVersion": "0.4.0"},
    )


TABLE = [
    *every_verb_at_every_version(),
    *missing_variables(),
    *names_by_the_spec(),
    *stdin_documents(),
    *unusable_versions(),
    *commands(),
    *previous_results(),
    *options(),
    *namespaces(),
    *attachments_of_gc(),
    *version_verb(),
]


def assert_row(row: Row, ran: Ran) -> None:
    """A call that was made as the row says has the answer that the row says."""
    shown = f"{ran}\n  follows: {row.follows or 'SPEC and skel'}"
    assert ran.err == b"", shown
    if row.code is None:
        assert ran.rc == 0, shown
        assert_result(row.command or "", ran.out)
        assert row.answer is None or the_document(ran.out) == row.answer, shown
        return
    assert ran.rc == 1, shown
    error = the_error(ran.out)
    assert error["code"] == row.code, shown
    missed = [name for name in row.names if name not in text_of(error)]
    assert not missed, f"{missed} not named: {shown}"
    assert not row.speaks or error["cniVersion"] == row.speaks, shown
