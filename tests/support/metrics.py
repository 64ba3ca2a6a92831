"""What cni-reaper has counted, as the file on the node says it."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.network import NETWORK
from tests.support.node import Node

METRICS_DIR = "/var/lib/textfiles"
METRICS_FILE = f"{METRICS_DIR}/cni-reaper.prom"


def exported(node: Node, file: str = METRICS_FILE) -> dict[str, float]:
    """Return what Prometheus' own parser reads: `reaped_total empty` -> value, without the network, which is NETWORK."""
    found = {}
    for family in text_string_to_metric_families(node.read(file)):
        for one in family.samples:
            labels = dict(one.labels)
            assert labels.pop("network", NETWORK) == NETWORK
            found[" ".join((one.name.removeprefix("cni_reaper_"), *labels.values()))] = one.value
    return found
