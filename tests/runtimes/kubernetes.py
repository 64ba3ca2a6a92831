"""packaging/kubernetes as kustomize renders it."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.runtimes import programs

OVERLAYS = Path(__file__).parents[2] / "packaging" / "kubernetes" / "overlays"


@cache
def rendered(overlay: str) -> str:
    """Return what `kubectl apply -k` would apply."""
    kustomize = programs.place("CNI_REAPER_KUSTOMIZE")
    return subprocess.run([kustomize, "build", OVERLAYS / overlay], capture_output=True, check=True, text=True).stdout


def pod(overlay: str) -> dict[str, Any]:
    """Return the PodSpec of the DaemonSet."""
    spec: dict[str, Any] = yaml.safe_load(rendered(overlay))["spec"]["template"]["spec"]
    return spec
