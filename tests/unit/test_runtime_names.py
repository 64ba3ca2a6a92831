"""What runtimes and libcni leave on disk: IDs with a namespace in front, and the result cache."""

from pathlib import Path

import pytest

from cni_reaper_plugin.evidence import libcni_cache, runtime_names

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("owner", "bare"),
    [
        (HEX, HEX),
        ("default-" + HEX, HEX),
        ("k8s.io-" + HEX, HEX),
        ("cnitool-20c433bb2b1d6ede56d6", "20c433bb2b1d6ede56d6"),
        ("a-b-" + HEX[:12], HEX[:12]),
        ("default-" + HEX[:11], "default-" + HEX[:11]),
        ("-" + HEX, "-" + HEX),
        ("web-1", "web-1"),
        ("a-" + HEX.upper(), "a-" + HEX.upper()),
    ],
)
def test_nerdctl_id_is_looked_for_by_its_hex(owner: str, bare: str) -> None:
    """An ID of nerdctl, `<namespace>-<hex>` is looked for by its hex; whatever else has a dash stays whole."""
    assert runtime_names.bare(owner) == bare


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ('{"kind":"cniCacheV1","netns":"/run/netns/a","result":{}}', "/run/netns/a"),
        (
            '{"kind":"cniCacheV1","result":{"interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/run/netns/b"}]}}',
            "/run/netns/b",
        ),
        ('{"kind":"cniCacheV1","netns":"","result":{"interfaces":[{"sandbox":""},{"sandbox":"/run/netns/b"}]}}', "/run/netns/b"),
        ('{"cniVersion":"0.3.1","interfaces":[{"sandbox":"/proc/7/ns/net"}]}', "/proc/7/ns/net"),
        ('{"kind":"cniCacheV1","netns":7,"result":null}', ""),
        ('{"kind":"cniCacheV1","netns":"relative"}', ""),
        ('{"kind":"cniCacheV1","netns":"/a\\u0000b"}', ""),
        ('{"kind":"cniCacheV1","result":{"interfaces":[null,7,{"sandbox":null}]}}', ""),
        ('{"kind":"cniCacheV1","result":{"interfaces":{"sandbox":"/x"}}}', ""),
        ('{"networkName":"net","containerId":"id","ifName":"eth0","netns":"/a"}', "/a"),
        ('{"networkName":"other","containerId":"id","ifName":"eth0","netns":"/a"}', ""),
        ('{"networkName":"net","containerId":"id-x","ifName":"eth0","netns":"/a"}', ""),
        ('{"ifName":"net1","netns":"/a"}', ""),
        ('{"ip4":{"ip":"10.0.0.2/24"}}', ""),
        ("[]", ""),
        ("null", ""),
        ("", ""),
        ('{"kind":"cniCac', ""),
    ],
)
def test_cache_entry_names_its_netns_or_says_nothing(tmp_path: Path, entry: str, path: str) -> None:
    """An entry of any libcni names its netns; one that is empty, cut, of another kind or another attachment says nothing."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "net-id-eth0").write_text(entry)
    found = libcni_cache.read(["/nowhere", str(tmp_path)], "net", "id", "eth0")
    assert (found.path if found is not None else "") == path
    assert libcni_cache.read([str(tmp_path)], "net", "id", "eth1") is None


def test_the_first_cache_that_says_something_counts(tmp_path: Path) -> None:
    """Caches are asked in their order; an empty entry does not hide the next cache's."""
    for name, entry in (("a", ""), ("b", '{"netns":"/b"}'), ("c", '{"netns":"/c"}')):
        (tmp_path / name / "results").mkdir(parents=True)
        (tmp_path / name / "results" / "net-id-eth0").write_text(entry)
    found = libcni_cache.read([str(tmp_path / name) for name in "abc"], "net", "id", "eth0")
    assert found is not None
    assert (found.source, found.path, found.recorded) == ("cache", "/b", None)
