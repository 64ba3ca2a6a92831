"""The arm64 executable, the part that takes seconds: under qemu's user emulation, or directly on an arm64 machine.

qemu-user refuses RTM_GETNSID, so no heal can be seen here: tests/machines boots a kernel for that.
"""

import json
import os
import platform
import struct
import subprocess
from pathlib import Path

import pytest

from cni_reaper_plugin import __version__
from tests.conformance.answers import VERSIONS, assert_result, the_document, the_error

EMULATOR = [] if platform.machine() == "aarch64" else ["qemu-aarch64-static"]
ET_EXEC, EM_AARCH64, PT_DYNAMIC, PT_INTERP = 2, 183, 2, 3
"""Of elf(5)."""


def run(
    arm64: Path, *arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run it with nothing in the environment but what is given."""
    argv = [*EMULATOR, str(arm64), *arguments]
    path = {"PATH": os.environ["PATH"]}  # of the emulator
    return subprocess.run(argv, input=stdin, env={**path, **(environment or {})}, capture_output=True)


def test_is_one_static_file_for_arm64(arm64: Path) -> None:
    """An ELF file of that architecture at a fixed address, without an interpreter and without a dynamic section."""
    data = arm64.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    kind, architecture = struct.unpack_from("<HH", data, 16)
    assert (kind, architecture) == (ET_EXEC, EM_AARCH64)
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = {struct.unpack_from("<I", data, table + size * number)[0] for number in range(count)}
    assert not segments & {PT_DYNAMIC, PT_INTERP}


def test_version_answers(arm64: Path) -> None:
    """VERSION needs the core of the interpreter only."""
    ran = run(arm64, environment={"CNI_COMMAND": "VERSION"}, stdin=b'{"cniVersion":"1.0.0"}')
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert_result("VERSION", ran.stdout)
    assert the_document(ran.stdout) == {"cniVersion": "1.0.0", "supportedVersions": list(VERSIONS)}


def test_add_without_variables_is_error_4(arm64: Path) -> None:
    """ADD without any variable is error 4, which names them."""
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "net", "type": "cni-reaper"}).encode()
    ran = run(arm64, environment={"CNI_COMMAND": "ADD"}, stdin=stdin)
    assert (ran.returncode, ran.stderr) == (1, b"")
    error = the_error(ran.stdout)
    assert error["code"] == 4
    assert "CNI_CONTAINERID" in error["msg"]


def test_add_at_the_head_answers(arm64: Path, tmp_path: Path) -> None:
    """An ADD on a network without reservations answers, whatever the emulator refuses."""
    places = {"dataDir": str(tmp_path / "networks"), "stateDir": str(tmp_path / "state"), "logFile": str(tmp_path / "log")}
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "net", "type": "cni-reaper", **places}).encode()
    given = {"CNI_CONTAINERID": "ab" * 32, "CNI_NETNS": "/proc/nowhere", "CNI_IFNAME": "eth0", "CNI_PATH": str(tmp_path)}
    ran = run(arm64, environment={"CNI_COMMAND": "ADD", **given}, stdin=stdin)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert the_document(ran.stdout) == {"cniVersion": "1.1.0"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--help"], "usage: cni-reaper"), (["--version"], __version__), (["version", "--verbose"], "python")],
)
def test_answers_a_person(arm64: Path, arguments: list[str], says: str) -> None:
    """The whole interpreter starts, argparse included."""
    ran = run(arm64, *arguments)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert says in ran.stdout.decode()


def test_wrong_command_line_exits_2(arm64: Path) -> None:
    """It exits 2 and names what is wrong."""
    ran = run(arm64, "frobnicate")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"frobnicate" in ran.stderr


def test_doctor_reports_missing_conflist(arm64: Path, tmp_path: Path) -> None:
    """On directories without a conflist it reports an error, and the exit code says so."""
    (tmp_path / "net.d").mkdir()
    (tmp_path / "bin").mkdir()
    ran = run(arm64, "doctor", "--json", "--conf-dir", str(tmp_path / "net.d"), "--bin-dir", str(tmp_path / "bin"))
    assert ran.returncode == 2, ran.stderr.decode()
    assert "no-conflist" in {one["key"] for one in json.loads(ran.stdout)["findings"]}
