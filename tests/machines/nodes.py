"""Conflists of the machines' nodes."""

import json

from tests.support.cni_calls import bridge, host_local
from tests.support.node_files import Conf

POOL = "10.90.0.0/29"
"""Five addresses for pods, 10.90.0.2 to .6; .1 is the gateway's."""


def conflist(*first: Conf) -> bytes:
    """Return the conflist of the network `net`: bridge and portmap, behind other plugins."""
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [*first, bridge(host_local(POOL)), portmap]}).encode()
