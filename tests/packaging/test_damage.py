"""A damaged bundle: for each of its files, removed or cut short, an ADD is done right or refused in the protocol's own words."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.pair import Pair, container_id
from tests.node import Node
from tests.packaging.test_freeze import ANSWER, VERSION, bundle

__all__ = ["bundle"]

SPARED = 102  # the code of last_words.c


def removed(file: Path) -> None:
    """The file is not there."""
    file.unlink()


def cut(file: Path) -> None:
    """Half of the file is there, as after a full disk."""
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2])
    file.chmod(0o755)


def emptied(file: Path) -> None:
    """Nothing of the file is there, as after a power loss."""
    file.unlink()
    file.touch(0o755)


def each(bundle: Path) -> list[Path]:
    """Return every file of the bundle but the executable, by its place in it."""
    found = sorted(file.relative_to(bundle) for file in bundle.rglob("*") if file.is_file())
    return [file for file in found if str(file) != "cni-reaper"]


@pytest.mark.parametrize("damage", [removed, cut, emptied])
def test_an_add_with_a_damaged_bundle(node: Node, bundle: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """It succeeds, if the file was not needed or only the sweep needed it; or it fails with code 102, exit code 1. No crash."""
    pair = Pair(node)
    live = pair.add(node.pod("live"))
    outcomes: Counter[str] = Counter()
    wrong = []
    for number, file in enumerate(each(bundle)):
        stale = pair.leak()
        pod = node.pod()
        copy = tmp_path / str(number)
        shutil.copytree(bundle, copy, copy_function=os.link)
        damage(copy / file)
        ran = node.plugin("ADD", pair.head, netns=pod, container_id=container_id(pod.name), binary=str(copy / "cni-reaper"))
        answer = ran.json() if ran.out else {}
        if ran.rc == 0 and answer.get("cniVersion"):
            outcomes["added and reaped" if stale not in pair.held() else "added"] += 1
        elif ran.rc == 1 and answer.get("code") == SPARED and "install it again" in answer["msg"]:
            outcomes["refused"] += 1
        else:
            wrong.append(f"{file}: {ran}")
        assert live in pair.held()
        shutil.rmtree(copy)
        pair.reap()
    assert wrong == []
    assert outcomes["refused"] >= 2, "at least the interpreter and orjson"
    assert outcomes["added and reaped"] > 10
    assert outcomes["added"] > 3, "without what only the closer look needs nothing is reaped, and no pod fails"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_an_executable_that_is_cut_short(node: Node, bundle: Path, tmp_path: Path, share: float) -> None:
    """The kernel refuses it, or it says that the bundle is damaged; it never answers anything else."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    executable = copy / "cni-reaper"
    os.truncate(executable, int(executable.stat().st_size * share))
    ran = node.run(["bash", "-c", '"$0"', str(executable)], env=VERSION)
    if ran.rc == 0:
        assert ran.out == ANSWER, "nothing that is needed was in what is missing"
    elif ran.out:
        assert (ran.rc, ran.json()["code"]) == (1, SPARED)
    else:
        assert ran.rc is not None
