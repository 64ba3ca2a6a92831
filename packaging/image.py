"""Make the container image of executables: python packaging/image.py OUT EXECUTABLE...

It is one file from scratch: /cni-reaper. The OCI archive, cni-reaper-image-v<version>.tar, has an image for the architecture of
each executable, and a runtime takes its own. Two archives of the same executables are equal byte by byte; files are of
SOURCE_DATE_EPOCH, by default of the commit's time. Prints the path. Neither root nor a container engine is needed: the format is
https://github.com/opencontainers/image-spec.
"""

import datetime
import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from artifact import arch_of, version
from build_root import BuildError
from freeze import made_s

TYPE = "application/vnd.oci.image"
LABELS = {
    "org.opencontainers.image.title": "cni-reaper",
    "org.opencontainers.image.description": "Puts cni-reaper into the CNI conflist of a node, and keeps it there",
    "org.opencontainers.image.licenses": "Apache-2.0",
}
Json = dict[str, Any]


def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    """Add a file of root's to a tar."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), mode, made_s()
    tar.addfile(entry, io.BytesIO(content))


class Layout:
    """An OCI image layout: blobs by their digests."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def blob(self, kind: str, content: bytes | Json) -> Json:
        """Add a blob, and return its descriptor. kind: the end of its media type."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest = hashlib.sha256(raw).hexdigest()
        self._blobs[f"blobs/sha256/{digest}"] = raw
        return {"mediaType": f"{TYPE}.{kind}", "digest": f"sha256:{digest}", "size": len(raw)}

    def image(self, executable: Path) -> Json:
        """Add the image of one executable, and return its descriptor. Raises BuildError."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            add(tar, "cni-reaper", executable.read_bytes(), 0o755)
        created = datetime.datetime.fromtimestamp(made_s(), datetime.UTC).isoformat()
        platform = {"architecture": arch_of(executable), "os": "linux"}
        config = self.blob(
            "config.v1+json",
            {
                **platform,
                "created": created,
                "config": {
                    "Entrypoint": ["/cni-reaper"],
                    "Cmd": ["--help"],
                    "Labels": {**LABELS, "org.opencontainers.image.version": version()},
                },
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
                "history": [{"created": created, "created_by": "packaging/image.py"}],
            },
        )
        layers = [self.blob("layer.v1.tar+gzip", gzip.compress(layer.getvalue(), mtime=0))]
        manifest = self._document("manifest.v1+json", {"config": config, "layers": layers})
        return {**self.blob("manifest.v1+json", manifest), "platform": platform}

    def write(self, images: list[Json], archive: Path) -> None:
        """Write the layout as a tar, with its images under a name by which runtimes know them."""
        tag = f"localhost/cni-reaper:{version()}"
        whole = self.blob("index.v1+json", self._document("index.v1+json", {"manifests": images}))
        named = {**whole, "annotations": {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}}
        files = {
            **self._blobs,
            "index.json": json.dumps(self._document("index.v1+json", {"manifests": [named]})).encode(),
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        }
        with tarfile.open(archive, "w") as tar:
            for name, content in sorted(files.items()):
                add(tar, name, content, 0o644)

    @staticmethod
    def _document(kind: str, content: Json) -> Json:
        return {"schemaVersion": 2, "mediaType": f"{TYPE}.{kind}", **content}


def main() -> None:
    """Make the archive, see the module."""
    out, *executables = (Path(argument).resolve() for argument in sys.argv[1:])
    archive = out / f"cni-reaper-image-v{version()}.tar"
    layout = Layout()
    images = [layout.image(executable) for executable in executables]
    out.mkdir(parents=True, exist_ok=True)
    layout.write(images, archive)
    print(archive)


if __name__ == "__main__":
    try:
        main()
    except BuildError as error:
        sys.exit(f"image: {error}")
