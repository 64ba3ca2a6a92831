"""The bill of materials of a release, as CycloneDX: what is inside the bundle, and where each part comes from."""

import datetime
import json
import shutil
import uuid
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL


def _component(name: str, version: str, licence: str, purl: PackageURL | None, what: str, kind: ComponentType) -> Component:
    expression = " " in licence
    return Component(
        name=name,
        version=version,
        type=kind,
        bom_ref=str(purl) if purl else name,
        purl=purl,
        description=what,
        licenses=[LicenseExpression(licence) if expression else DisjunctiveLicense(id=licence)],
    )


def _debian(root: Path, package: str) -> str:
    """Return the version of a Debian package in the old root."""
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Package") == package:
            return fields["Version"]
    message = f"{package} is not installed in {root}"
    raise LookupError(message)


def components(root: Path, site: Path, python: str) -> list[Component]:
    """Return what the bundle is made of.

    root: the old root; site: its Python packages; python: the version of Debian's source of the interpreter.
    """
    versions = {
        found.metadata["Name"].lower().replace("-", "_"): found.version for found in Distribution.discover(path=[str(site)])
    }
    library, framework = ComponentType.LIBRARY, ComponentType.FRAMEWORK

    def pypi(name: str) -> PackageURL:
        return PackageURL("pypi", None, name.replace("_", "-"), versions[name])

    def debian(source: str, version: str, suite: str) -> PackageURL:
        return PackageURL("deb", "debian", source, version, {"arch": "source", "distro": suite})

    ffi, zlib = _debian(root, "libffi-dev"), _debian(root, "zlib1g-dev")
    return [
        _component("cpython", python, "PSF-2.0", debian("python3.11", python, "bookworm"), "the interpreter", framework),
        _component(
            "orjson", versions["orjson"], "Apache-2.0 OR MIT", pypi("orjson"), "JSON; its own parts: sbom/orjson", library
        ),
        _component(
            "pyinstaller",
            versions["pyinstaller"],
            "GPL-2.0-or-later WITH Bootloader-exception",
            pypi("pyinstaller"),
            "the bootloader, with its zlib",
            framework,
        ),
        _component(
            "inotify_simple", versions["inotify_simple"], "BSD-2-Clause", pypi("inotify_simple"), "install --watch", library
        ),
        _component("rich", versions["rich"], "MIT", pypi("rich"), "the operator's commands", library),
        _component("libffi", ffi, "MIT", debian("libffi", ffi, "bullseye"), "ctypes", library),
        _component("zlib", zlib, "Zlib", debian("zlib", zlib, "bullseye"), "headers the interpreter was built with", library),
    ]


def write(bundle: Path, root: Path, site: Path, what: dict[str, Any], made_s: int) -> None:
    """Write sbom/cni-reaper.cdx.json, and orjson's own beside it. what: build.json; made_s: when the commit was made."""
    into = bundle / "sbom"
    into.mkdir()
    python = (root / "build/python.version").read_text().strip()
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"cni-reaper {what['commit']} {what['kind']}"))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(made_s, datetime.UTC)
    itself = _component(
        "cni-reaper", what["version"], "Apache-2.0", None, "frees host-local reservations that leaked", ComponentType.APPLICATION
    )
    itself.external_references.add(
        ExternalReference(type=ExternalReferenceType.BUILD_META, url=XsUri("build.json"), comment=f"commit {what['commit']}")
    )
    bom.metadata.component = itself
    parts = components(root, site, python)
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(itself, parts)
    text = JsonV1Dot5(bom).output_as_string(indent=2)
    (into / "cni-reaper.cdx.json").write_text(json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n")
    (own,) = site.glob("orjson-*.dist-info/sboms/orjson.cyclonedx.json")
    shutil.copy(own, into / "orjson.cdx.json")
