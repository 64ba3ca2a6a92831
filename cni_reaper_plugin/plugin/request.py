"""One request: the CNI_* environment by the SPEC's table, and the network configuration from stdin.

Source: SPEC 1.1.0 sections 2 and 4; where it differs from Go's skel (3f51e88), tests/conformance/test_protocol.py says which
one a row follows. CNI_PATH is required on GC only, as the SPEC has it: nothing here needs it.
"""

import posix

import orjson

from cni_reaper_plugin.attachment import valid_ifname, valid_name
from cni_reaper_plugin.cni_versions import LATEST_VERSION, SUPPORTED_VERSIONS
from cni_reaper_plugin.plugin.errors import (
    BAD_ENVIRONMENT,
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    IO_FAILURE,
    CNIError,
)

DEFAULT_VERSION = "0.1.0"  # a config without cniVersion; pkg/types/create (3f51e88)

REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
}
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_CHUNK = 1 << 16
_MOST_CHUNKS, _MOST_BYTES = 1024, 64 << 20  # far beyond any configuration; a pipe gives less than a chunk at a time

Environment = dict[bytes, bytes]


class Request:
    """One call.

    Attributes:
        verb: CNI_COMMAND.
        container_id: CNI_CONTAINERID, "" where absent.
        ifname: CNI_IFNAME, "" where absent.
        netns: CNI_NETNS, "" where absent.
        args: CNI_ARGS, "" where absent.
        config: the object on stdin.
        cni_version: of the config, checked.
        name: of the config, checked.
        problem: why a DEL can do nothing, "" otherwise.
    """

    __slots__ = ("args", "cni_version", "config", "container_id", "ifname", "name", "netns", "problem", "verb")

    def __init__(self, verb: str, environment: Environment) -> None:
        """Take the environment's part of a request. Raises CNIError 4 that names every missing and invalid variable."""
        self.verb = verb
        self.container_id = variable(environment, "CNI_CONTAINERID")
        self.ifname = variable(environment, "CNI_IFNAME")
        self.netns = variable(environment, "CNI_NETNS")
        self.args = environment.get(b"CNI_ARGS", b"").decode("utf-8", "replace")
        self.config: dict[str, object] = {}
        self.cni_version = LATEST_VERSION
        self.name = ""
        self.problem = ""
        required = REQUIRED[verb]
        problems = []
        missing = [name for name in required if not variable(environment, name)]
        if missing:
            problems.append("required env variables [%s] missing" % ",".join(missing))
        if "CNI_CONTAINERID" in required and self.container_id and not valid_name(self.container_id):
            problems.append("invalid characters in CNI_CONTAINERID %r" % self.container_id)
        if "CNI_IFNAME" in required and self.ifname and not valid_ifname(self.ifname):
            problems.append("CNI_IFNAME %r is no interface name" % self.ifname)
        if problems:
            raise CNIError(BAD_ENVIRONMENT, "; ".join(problems))

    def configure(self, document: bytes) -> None:
        """Take the network configuration. Raises CNIError 1, 6 or 7, on DEL only when it is no JSON object.

        A DEL whose network cannot be told sets `problem` instead.
        """
        try:
            config = orjson.loads(document)
        except orjson.JSONDecodeError as e:
            raise CNIError(DECODING_FAILURE, "network config on stdin is not JSON: %s" % e) from None
        if config is None:
            config = {}  # as Go decodes null
        if not isinstance(config, dict):
            raise CNIError(DECODING_FAILURE, "network config on stdin must be a JSON object")
        self.config = config
        version = config.get("cniVersion")
        if isinstance(version, str) and version in SUPPORTED_VERSIONS:
            self.cni_version = version  # an error about anything else speaks it, too
        try:
            self._check()
        except CNIError as e:
            if self.verb != "DEL":
                raise
            self.problem = e.msg

    def _check(self) -> None:
        self.name = self._checked_name()
        if self.verb == "DEL":
            return  # what DEL has to do needs neither version nor prevResult
        self.cni_version = self._checked_version()
        since = SINCE.get(self.verb)
        if since is not None and SUPPORTED_VERSIONS.index(self.cni_version) < SUPPORTED_VERSIONS.index(since):
            details = "config is %s, %s needs %s" % (self.cni_version, self.verb, since)
            raise CNIError(INCOMPATIBLE_VERSION, "config version does not allow %s" % self.verb, details)
        previous = self.config.get("prevResult")
        if previous is not None and not isinstance(previous, dict):
            raise CNIError(DECODING_FAILURE, "prevResult must be a JSON object")

    def _checked_name(self) -> str:
        name = self.config.get("name")
        if name is None or name == "":
            raise CNIError(INVALID_CONFIG, "missing network name")
        if not isinstance(name, str):
            raise CNIError(DECODING_FAILURE, "network name must be a string")
        if not valid_name(name):
            raise CNIError(INVALID_CONFIG, "invalid characters found in network name", name)
        return name

    def _checked_version(self) -> str:
        version = self.config.get("cniVersion")
        if version is None or version == "":
            return DEFAULT_VERSION
        if not isinstance(version, str):
            raise CNIError(DECODING_FAILURE, "cniVersion must be a string")
        if version not in SUPPORTED_VERSIONS:
            details = 'config is "%s", plugin supports %s' % (version, " ".join(SUPPORTED_VERSIONS))
            raise CNIError(INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
        return version

    def pod(self) -> dict[str, str]:
        """Return {namespace, name, uid} of the pod, as far as CNI_ARGS tells. Never fails: CNI_ARGS is not ours to check."""
        args = dict(pair.partition("=")[::2] for pair in self.args.split(";"))
        keys = {"namespace": "K8S_POD_NAMESPACE", "name": "K8S_POD_NAME", "uid": "K8S_POD_UID"}
        return {key: args[name] for key, name in keys.items() if args.get(name)}


def variable(environment: Environment, name: str) -> str:
    """Return an environment variable, "" when it is not set."""
    return environment.get(name.encode(), b"").decode("utf-8", "surrogateescape")


def read_stdin() -> bytes:
    """Read stdin to its end. Raises CNIError 5, also where no end is to be seen."""
    parts = []
    try:
        while part := posix.read(0, _CHUNK):
            parts.append(part)
            if len(parts) > _MOST_CHUNKS and sum(map(len, parts)) > _MOST_BYTES:
                raise CNIError(IO_FAILURE, "network config cannot be read from stdin: it has more than 64 MiB")
    except OSError as e:
        raise CNIError(IO_FAILURE, "network config cannot be read from stdin: %s" % e) from e
    return b"".join(parts)
