"""The executable starts on each kernel, and each is the one it is said to be."""

import json

import pytest

from cni_reaper_plugin import __version__
from tests.machines.machine import Console, Machine

SCENARIO = """
step "kernel" uname -rm
step "version" env -i CNI_COMMAND=VERSION /root/cni-reaper </request
step "version of the program" /root/cni-reaper version
"""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@pytest.fixture(scope="module")
def node(machine: Machine) -> Console:
    """One boot, in which the kernel and the executable say what they are."""
    return machine.run(SCENARIO, {"request": b'{"cniVersion": "1.0.0"}'})


def test_kernel_is_the_one_that_was_chosen(machine: Machine, node: Console) -> None:
    """Its version and its architecture."""
    release, architecture = node["kernel"].check().out.decode().split()
    assert release.startswith(f"{machine.kernel.version}.")
    assert architecture == MACHINES[machine.kernel.architecture]


def test_version(node: Console) -> None:
    """VERSION answers, and so does the command."""
    assert "1.0.0" in json.loads(node["version"].check().out)["supportedVersions"]
    assert __version__ in node["version of the program"].check().text
