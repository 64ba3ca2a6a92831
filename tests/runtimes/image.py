"""A pause image, made of our own program: what `docker save` would have written, which containerd and Podman both load."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

NAME = "localhost/pause:1"


def _file(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(data), mode
    archive.addfile(about, io.BytesIO(data))


def archive(program: Path) -> bytes:
    """Return the image with one program, which it runs, as a tar."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        _file(content, "pause", program.read_bytes(), 0o755)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as content:
        _file(content, "layer.tar", layer.getvalue())
        _file(content, config_name, config)
        _file(content, "manifest.json", json.dumps(manifest).encode())
    return whole.getvalue()
