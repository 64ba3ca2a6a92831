"""The runtimes that `./build.sh e2e` has built or installed: where they are, and how CRI is spoken."""

import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

PLACES = (
    "CNI_REAPER_CONTAINERD",
    "CNI_REAPER_CONTAINERD_1_7",
    "CNI_REAPER_CONTAINERD_OLD",
    "CNI_REAPER_KUBELET",
    "CNI_REAPER_CRI",
    "CNI_REAPER_PAUSE",
    "CNI_REAPER_PROMETHEUS",
    "CNI_REAPER_SYSTEMD",
    "CNI_REAPER_IMAGE",
    "CNI_REAPER_KUSTOMIZE",
    "CNI_REAPER_KUBECTL_VALIDATE",
)
"""Environment variables: directories of containerd 2, 1.7 and Debian's, the kubelet, the compiled api.proto, the pause program,
Prometheus and its tools, a root with systemd in it, our image's archive, kustomize,
kubectl-validate."""


def given() -> bool:
    """Tell whether `./build.sh e2e` runs us; nothing else knows where the runtimes are."""
    return all(name in os.environ for name in PLACES)


def place(name: str) -> Path:
    """Return the path in one of the variables."""
    return Path(os.environ[name])


@cache
def cri() -> tuple[ModuleType, ModuleType]:
    """Return the messages and the stubs that protoc has made of k8s.io/cri-api's api.proto."""
    sys.path.insert(0, str(place("CNI_REAPER_CRI")))
    try:
        import api_pb2  # type: ignore[import-not-found]  # made by build.sh
        import api_pb2_grpc  # type: ignore[import-not-found]
    finally:
        del sys.path[0]
    return api_pb2, api_pb2_grpc
