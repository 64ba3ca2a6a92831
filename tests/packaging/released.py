"""What is in the files of a release."""

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def told(executable: Path) -> dict[str, str]:
    """Return what an executable says of its build."""
    said = subprocess.run([executable, "version", "--verbose"], capture_output=True, check=True, text=True).stdout
    return dict(re.findall(r"^(\S+) +(.*)$", said, re.MULTILINE))


def bill(unpacked: Path) -> dict[str, dict[str, Any]]:
    """Return the components of the bill of materials by their names."""
    return {one["name"]: one for one in json.loads((unpacked / "sbom.cdx.json").read_bytes())["components"]}


class Image:
    """An OCI archive, each blob of which is what its digest says."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as whole:
            self._files = {entry.name: self._content(whole, entry) for entry in whole}
        for name, content in self._files.items():
            if name.startswith("blobs/"):
                assert hashlib.sha256(content).hexdigest() == name.removeprefix("blobs/sha256/")
        (self.named,) = json.loads(self._files["index.json"])["manifests"]
        self.platforms = json.loads(self.blob(self.named))["manifests"]

    @staticmethod
    def _content(whole: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
        file = whole.extractfile(entry)
        assert file
        return file.read()

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        """Return what a descriptor is of."""
        content = self._files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert len(content) == descriptor["size"]
        return content

    def images(self) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
        """Return of each platform the configuration, and the files of the only layer."""
        for one in self.platforms:
            manifest = json.loads(self.blob(one))
            (layer,) = manifest["layers"]
            config = json.loads(self.blob(manifest["config"]))
            raw = gzip.decompress(self.blob(layer))
            assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(raw).hexdigest()}"]
            assert one["platform"] == {"architecture": config["architecture"], "os": config["os"]}
            with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
                assert [(entry.mode, entry.uid, entry.isfile()) for entry in tar] == [(0o755, 0, True)]
                yield config, {entry.name: self._content(tar, entry) for entry in tar}
