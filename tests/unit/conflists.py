"""Conflists for the tests of those who read them."""

import json
from pathlib import Path
from typing import Any

HOST_LOCAL: dict[str, Any] = {"type": "host-local", "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]}
BRIDGE: dict[str, Any] = {"type": "bridge", "ipam": HOST_LOCAL}


def written(directory: Path, told: object, name: str = "10-net.conflist") -> str:
    """Write a file, JSON but for bytes; return its path."""
    path = directory / name
    path.write_bytes(told if isinstance(told, bytes) else json.dumps(told).encode())
    return str(path)


def of(*plugins: Any, **more: Any) -> dict[str, Any]:
    """Return a list of plugins."""
    return {"cniVersion": "1.0.0", "name": "net", "plugins": list(plugins), **more}
