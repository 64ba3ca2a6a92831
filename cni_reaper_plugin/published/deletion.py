"""What the DEL of a chained plugin is run with for a container that is dead, and for which reservations at all.

CNI_NETNS is empty, as the SPEC allows it.
"""

from cni_reaper_plugin.model import OWNED, Judged
from cni_reaper_plugin.reasons import REBOOTED

Environment = dict[bytes, bytes]


def is_wanted(judged: Judged) -> bool:
    """Tell whether something of an owner may stand outside of its netns: nothing does after a reboot, nor without an owner."""
    return judged.reservation.kind == OWNED and judged.reason != REBOOTED


def directories(environment: Environment, name: bytes) -> list[str]:
    """Return the directories of PATH or CNI_PATH."""
    return [one for one in environment.get(name, b"").decode("utf-8", "surrogateescape").split(":") if one]


def environment_of(given: Environment, container_id: str, ifname: str, args: str, plugin_dirs: list[str]) -> Environment:
    """Return the environment of a DEL.

    given: of the call, of whose CNI_ variables nothing is left; args: CNI_ARGS; plugin_dirs: for CNI_PATH. Raises ValueError for
    a text that cannot be encoded.
    """
    variables = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": "",
        "CNI_IFNAME": ifname,
        "CNI_ARGS": args,
        "CNI_PATH": ":".join(plugin_dirs),
    }
    kept = {name: value for name, value in given.items() if not name.startswith(b"CNI_")}
    return {**kept, **{name.encode(): value.encode("utf-8", "surrogateescape") for name, value in variables.items()}}
