"""What a network of a store is called in /run/cni-reaper: two stores may have networks of one name.

In host-local's default store it is the network's name. Elsewhere the dataDir follows an `@`, which no network has in its name:
`net@%2Frun%2Fstore`. What would be too long for a file's name is a SHA-256 there.
"""

from cni_reaper_plugin.model import DATA_DIR, LONGEST_KEY


def key(data_dir: str, network: str) -> str:
    """Return the name; no two networks of any stores have one."""
    if data_dir == DATA_DIR and len(network) <= LONGEST_KEY:
        return network
    place = data_dir.replace("%", "%25").replace("/", "%2F")
    if place.isascii() and len(network) + len(place) < LONGEST_KEY:
        return network + "@" + place
    import hashlib

    return "@" + hashlib.sha256(("%s/%s" % (data_dir, network)).encode("utf-8", "surrogatepass")).hexdigest()
