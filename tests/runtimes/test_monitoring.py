"""metricsFile as Prometheus sees it: a real node_exporter serves it, promtool has nothing to say, and the alerts fire."""

import json
import subprocess
from pathlib import Path

from tests.runtimes.programs import place
from tests.support.network import Network
from tests.support.node import Node
from tests.support.programs import ROOT
from tests.support.waiting import until

DIRECTORY = "/var/lib/node_exporter/textfile_collector"
ALERTS = ROOT / "packaging" / "monitoring" / "alerts.yaml"
URL = "http://127.0.0.1:9100/metrics"
READ = f"import urllib.request as r; print(r.urlopen('{URL}', timeout=5).read().decode())"

FIRES = """
rule_files: [{rules}]
evaluation_interval: 5m
tests:
  - interval: 5m
    input_series:
      - series: 'cni_reaper_reaped_total{{instance="n",network="net",reason="netns-gone"}}'
        values: '0+{leaks}x60'
    alert_rule_test:
      - eval_time: 4h
        alertname: CniReaperLeaksKeepComing
        exp_alerts: {alerts}
"""


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """Run promtool; it must have nothing to say against what it is shown."""
    ran = subprocess.run(
        [place("CNI_REAPER_PROMETHEUS") / "promtool", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_node_exporter_serves_it(node: Node) -> None:
    """What an ADD has written is served as it is, and promtool finds every name and help in order."""
    node.path(DIRECTORY).mkdir(parents=True)
    network = Network(node, metricsFile=f"{DIRECTORY}/cni-reaper.prom")
    network.add(node.pod())
    node.reserve("net", "10.66.0.7", "d" * 64)
    network.reap()
    exporter = str(place("CNI_REAPER_PROMETHEUS") / "prometheus-node-exporter")
    options = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={DIRECTORY}")
    running = node.start([exporter, *options, "--web.listen-address=127.0.0.1:9100"])
    try:
        until(lambda: node.run(["python3", "-c", READ]).rc == 0, "node_exporter answers", 20)
        served = node.run(["python3", "-c", READ]).check().out.decode()
    finally:
        node.stop(running)
    assert "node_textfile_scrape_error 0" in served
    lines = [line for line in served.splitlines() if "cni_reaper_" in line]
    assert 'cni_reaper_reaped_total{network="net",reason="no-netns-left"} 1' in lines
    assert 'cni_reaper_pool_used{network="net"} 1' in lines
    promtool("check", "metrics", stdin="\n".join(lines) + "\n")


CACHE_FIRES = """
rule_files: [{rules}]
evaluation_interval: 5m
tests:
  - interval: 5m
    input_series:
      - series: 'cni_reaper_cache_removed_total{{instance="n",kind="flannel"}}'
        values: '{values}'
    alert_rule_test:
      - eval_time: 1h
        alertname: CniReaperCacheFilesBroken
        exp_alerts: {alerts}
"""


def test_an_alert_fires_for_broken_files(tmp_path: Path) -> None:
    """One is enough, and none is not."""
    summary = "Broken flannel files on n kept pods from ending, and were removed"
    labels = {"severity": "info", "instance": "n", "kind": "flannel"}
    for number, (values, expected) in enumerate((("0x20", []), ("0x9 1x20", [{"exp_labels": labels}]))):
        file = tmp_path / f"{number}.yaml"
        file.write_text(CACHE_FIRES.format(rules=ALERTS, values=values, alerts=json.dumps(expected)))
        command: list[str | Path] = [place("CNI_REAPER_PROMETHEUS") / "promtool", "test", "rules", file]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert bool(expected) == (summary in ran.stdout + ran.stderr), ran.stdout + ran.stderr


def test_prometheus_takes_the_rules() -> None:
    """Promtool parses every rule."""
    assert "SUCCESS" in promtool("check", "rules", ALERTS)


def test_alert_fires_for_many_leaks_only(tmp_path: Path) -> None:
    """Two an hour are what cni-reaper is for; sixty are a fault elsewhere."""
    summary = "Pods of network net on n keep leaving their addresses behind"
    for leaks, expected in (
        (0.1, []),
        (5, [{"exp_labels": {"severity": "warning", "instance": "n", "network": "net", "reason": "netns-gone"}}]),
    ):
        text = FIRES.format(rules=ALERTS, leaks=leaks, alerts=json.dumps(expected))
        file = tmp_path / f"{leaks}.yaml"
        file.write_text(text)
        ran = subprocess.run(
            [place("CNI_REAPER_PROMETHEUS") / "promtool", "test", "rules", file], capture_output=True, text=True, check=False
        )
        told = ran.stdout + ran.stderr
        if expected:
            assert summary in told, told  # annotations are not compared here: it shows what it got
        else:
            assert ran.returncode == 0, told
