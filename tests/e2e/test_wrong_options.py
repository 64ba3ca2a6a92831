"""Options of the wrong type: no call fails but GC, nothing is freed, and the log says which."""

import pytest

from tests.support.calls import call_reaper, describe_call
from tests.support.network import NETWORK, Network


@pytest.mark.parametrize(
    ("option", "value"),
    [("networks", NETWORK), ("reapOn", "ADD"), ("dryRun", "false"), ("graceSeconds", "1500"), ("budgetMs", "500")],
)
def test_option_of_wrong_type_fails_no_call(network: Network, option: str, value: str) -> None:
    """An operator's slip stops no pod and no node: the call succeeds, reaps nothing and says it; only GC answers error 7."""
    node = network.node
    leak = network.leak()
    for verb in ("ADD", "DEL", "STATUS"):
        call_reaper(network, verb, {option: value})
        assert f"{option} must be" in node.log("bad-options")[-1]["reason"]
    assert network.held() == {leak}
    ran = node.together([describe_call(network, "GC", {option: value})])[0]
    assert ran.rc == 1
    assert ran.json()["code"] == 7
    assert option in ran.json()["msg"]
    call_reaper(network)
    assert network.held() == set()
