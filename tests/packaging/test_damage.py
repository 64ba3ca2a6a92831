"""A damaged executable: a call answers rightly, refuses in the protocol's own words, or ends without an answer."""

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_reaper_plugin.operator.executable import frozen
from tests.conformance.answers import VERSIONS
from tests.packaging import archive
from tests.support.network import Network, container_id
from tests.support.node import Node
from tests.support.programs import Programs

DAMAGED = 102  # the code of last_words.c
ANSWERED, REFUSED, NO_ANSWER = "answered", "refused", "no answer"
TRAILER_BYTES = len("\ncni-reaper sha256 \n") + 64
BLOCK = 64 << 10
CIRCLE_S = 60.0  # damaged code can run in a circle; that is no answer, either


@pytest.fixture(scope="session")
def whole(programs: Programs) -> bytes:
    """The executable's content."""
    return programs.reaper.read_bytes()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    """A function that writes an executable."""

    def write(content: bytes) -> Path:
        path = tmp_path / "cni-reaper"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
        return path

    return write


def outcome(executable: Path) -> str:
    """Run VERSION; return what came of it. Fails for anything but a right answer, code 102 and no answer at all."""
    try:
        ran = subprocess.run(
            [executable], env={"CNI_COMMAND": "VERSION"}, stdin=subprocess.DEVNULL, capture_output=True, timeout=CIRCLE_S
        )
    except OSError:
        return NO_ANSWER  # the kernel does not run it
    except subprocess.TimeoutExpired:
        return NO_ANSWER  # damaged code runs in a circle, and the runtime ends it
    if not ran.stdout:
        assert ran.returncode != 0
        return NO_ANSWER
    answer = json.loads(ran.stdout)
    if ran.returncode == 0:
        assert answer == {"cniVersion": VERSIONS[-1], "supportedVersions": list(VERSIONS)}
        return ANSWERED
    assert (ran.returncode, answer["code"]) == (1, DAMAGED), ran
    assert "install it again" in answer["msg"]
    return REFUSED


def test_cut_off_in_the_archive_is_refused(whole: bytes, written: Callable[[bytes], Path]) -> None:
    """All that the processor runs is there: each call says with code 102 that the executable is damaged."""
    begin, length = archive.sections(whole)[archive.SECTION]
    places = [begin + length * number // 24 for number in range(24)]
    assert Counter(outcome(written(whole[:place])) for place in places) == {REFUSED: len(places)}


def test_cut_off_before_the_archive_is_refused_or_does_not_run(whole: bytes, written: Callable[[bytes], Path]) -> None:
    """The kernel does not start it, a signal ends it, or it still finds the words."""
    begin, _ = archive.sections(whole)[archive.SECTION]
    places = [1, 4, 64, 4096, *(begin * number // 24 for number in range(1, 24)), begin - 1]
    assert ANSWERED not in {outcome(written(whole[:place])) for place in places}


def test_without_its_sum_it_runs_and_says_so(node: Node, whole: bytes, written: Callable[[bytes], Path]) -> None:
    """Only the last line is missing: calls work, the sum cannot be told, and `install` puts no such file on a node."""
    executable = written(whole[:-TRAILER_BYTES])
    assert outcome(executable) == ANSWERED
    with executable.open("rb") as file:
        assert frozen.sums(file.fileno()) is None
    ran = node.run([str(executable), "install", "--no-conflist", "--bin-dir", "/run/bin"])
    assert ran.rc == 1
    assert "the sum that it ends with is missing" in ran.text
    assert not node.path("/run/bin/cni-reaper").exists()


def test_zeroed_blocks_give_no_wrong_answer(whole: bytes, written: Callable[[bytes], Path]) -> None:
    """Blocks that a power loss has left empty, all over the file: no answer is wrong, and the sum tells each of them."""
    seen: Counter[str] = Counter()
    for number in range(48):
        place = (len(whole) - BLOCK) * number // 47
        content = whole[:place] + bytes(BLOCK) + whole[place + BLOCK :]
        executable = written(content)
        if content != whole:
            with executable.open("rb") as file:
                told, found = frozen.sums(file.fileno()) or ("", "none")
            assert told != found, place
        seen[outcome(executable)] += 1
    assert seen[ANSWERED] > 0, "what VERSION does not need"
    assert seen[REFUSED] > 0


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_damaged_hot_modules_are_refused(whole: bytes, written: Callable[[bytes], Path], verb: str) -> None:
    """VERSION does without the other verbs' modules and answers; each of the others says with code 102 what is wrong."""
    place = whole.index(b"cni_reaper_plugin/plugin/verbs.py")  # the last of them, and VERSION's are elsewhere
    executable = written(whole[: place - 256] + bytes(256) + whole[place:])
    assert outcome(executable) == ANSWERED
    ran = subprocess.run([executable], env={"CNI_COMMAND": verb}, stdin=subprocess.DEVNULL, capture_output=True, timeout=CIRCLE_S)
    assert (ran.returncode, json.loads(ran.stdout)["code"]) == (1, DAMAGED), ran
    assert b"install it again" in ran.stderr


def test_the_sum_tells_every_flipped_byte(whole: bytes, written: Callable[[bytes], Path]) -> None:
    """At the ends, in the sum itself, and anywhere between."""
    executable = written(whole)
    places = [0, 1, len(whole) - 1, len(whole) - 2, *(len(whole) - TRAILER_BYTES + n for n in (-1, 0, 1, 18, 19, 20))]
    places += random.Random(17).sample(range(len(whole)), 30)
    with executable.open("r+b") as file:
        told, found = frozen.sums(file.fileno()) or ("", "none")
        assert told == found
        for place in places:
            os.pwrite(file.fileno(), bytes([whole[place] ^ 1]), place)
            told, found = frozen.sums(file.fileno()) or ("", "none")
            assert told != found, place
            os.pwrite(file.fileno(), whole[place : place + 1], place)


def test_a_flipped_byte_gives_no_wrong_answer(whole: bytes, written: Callable[[bytes], Path]) -> None:
    """Most are never met; what is met is refused, or ends the process."""
    seen: Counter[str] = Counter()
    for place in random.Random(17).sample(range(len(whole)), 60):
        seen[outcome(written(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]))] += 1
    assert seen[ANSWERED] > 0


def test_doctor_tells_a_module_that_no_call_has_met(node: Node) -> None:
    """One byte of `uninstall` in the installed executable: calls work, an intact executable's doctor reports the damage."""
    installed = node.path("/opt/cni/bin/cni-reaper")
    installed.unlink()
    shutil.copy(node.programs.reaper, installed)
    place, length = archive.modules(installed.read_bytes())["cni_reaper_plugin.operator.install.uninstall"]
    with installed.open("r+b") as file:
        file.seek(place + length // 2)
        byte = file.read(1)[0]
        file.seek(place + length // 2)
        file.write(bytes([byte ^ 1]))
    network = Network(node)
    network.add(node.pod())
    node.conflist("net", [network.head, {"type": "bridge", "ipam": network.ipam["ipam"]}])
    findings = node.run([str(node.programs.reaper), "doctor", "--json"]).json()["findings"]
    assert "executable-damaged" in {one["key"] for one in findings}, findings


def cold(whole: bytes) -> list[str]:
    """Return the modules of cni-reaper that a call of the runtime may load late."""
    found = [name for name in archive.modules(whole) if name.startswith("cni_reaper_plugin.")]
    return [name for name in found if ".operator" not in name and not name.endswith(".packed")]


@pytest.mark.parametrize("byte", [b"\0", b"x", b"\xe3"], ids=["zeros", "other bytes", "half of code"])
def test_add_with_damaged_module_keeps_live_pods(node: Node, whole: bytes, written: Callable[[bytes], Path], byte: bytes) -> None:
    """Each module that is loaded late in turn: the ADD succeeds, frees the leak or says why not, and keeps the living."""
    network = Network(node)
    live = network.add(node.pod("live"))
    seen: Counter[str] = Counter()
    for name in cold(whole):
        stale = network.leak()
        executable = written(whole)
        archive.overwrite(executable, name, byte)
        pod = node.pod()
        ran = node.plugin("ADD", network.head, netns=pod, container_id=container_id(pod.name), binary=str(executable))
        assert (ran.rc, ran.err) == (0, b""), f"{name}: {ran}"
        assert ran.json() == {"cniVersion": "1.0.0"}
        assert live in network.held(), name
        if stale in network.held():
            assert "damaged" in node.log("sweep-skipped")[-1]["reason"], name
            seen["kept"] += 1
        else:
            seen["freed"] += 1
        network.reap()
        assert network.held() == {live}
    assert seen["kept"] > 3, "what judges"
    assert seen["freed"] > 0, "what counts, and what is for DEL"
