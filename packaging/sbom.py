"""The bill of materials of an executable, as CycloneDX: its parts, and where each comes from."""

import datetime
import json
import uuid
from pathlib import Path

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot5
from parts import Part, parts


def _component(part: Part) -> Component:
    is_expression = " " in part.licence
    return Component(
        name=part.name,
        version=part.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{part.name} {part.source}",
        purl=part.source,
        description=part.what,
        licenses=[LicenseExpression(part.licence) if is_expression else DisjunctiveLicense(id=part.licence)],
    )


def bill(root: Path, arch: str, version: str, commit: str, made_s: int) -> str:
    """Return the bill of materials of the executable for an architecture, the same for the same arguments.

    Args:
        root: the build root.
        arch: the executable's architecture.
        version: cni-reaper's.
        commit: cni-reaper's.
        made_s: when the commit was made, in seconds since the epoch.

    Raises:
        BuildError: a part is not as it was when parts.py was written.
    """
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"cni-reaper {commit} {arch} {root.name}"))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(made_s, datetime.UTC)
    itself = Component(
        name="cni-reaper",
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref="cni-reaper",
        description=f"frees host-local reservations that leaked; for {arch}",
        licenses=[DisjunctiveLicense(id="Apache-2.0")],
    )
    itself.properties.add(Property(name="cni-reaper:commit", value=commit))
    bom.metadata.component = itself
    found = [_component(part) for part in parts(root, arch)]
    for component in found:
        bom.components.add(component)
    bom.register_dependency(itself, found)
    return json.dumps(json.loads(JsonV1Dot5(bom).output_as_string(indent=2)), indent=2, sort_keys=True) + "\n"
