"""The doctor on conflists: are we in the one that is used, once, at the right place, and with options that fit the rest of it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin import options
from cni_reaper_plugin.cni_versions import SUPPORTED_VERSIONS
from cni_reaper_plugin.operator.conflists import conflist, position
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError, OddError
from cni_reaper_plugin.operator.conflists.position import ENTRY
from cni_reaper_plugin.operator.finding import Finding

FIRST_LIST_VERSION = "0.3.0"  # SPEC 0.3.0 brought lists, and prevResult with them
REWRITTEN = (  # type of the first plugin, or beginning of the file's name; who writes the file, and when
    ("10-canal", "canal's init container, at each start of a canal pod"),
    ("10-calico", "calico's init container, at each start of a calico pod"),
    ("calico", "calico's init container, at each start of a calico pod"),
    ("flannel", "k3s at each of its starts, or flannel's init container at each start of its pod"),
    ("10-kindnet", "kindnetd, at its start"),
    ("aws-cni", "aws-node, at its start"),
    ("cilium-cni", "the Cilium agent, whenever it likes"),
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_reaper_plugin.model import Settings


def check(entries: conflist.Found, in_use: bool = True) -> Iterator[Finding]:
    """Yield what is to be said of the files of one directory, in the order in which the runtime sorts them.

    in_use: the runtime of pods reads this directory; else it is podman's, or of the past.
    """
    used = position.master(entries) if in_use else -1
    present = [one for _, one in entries if isinstance(one, Conflist) and one.ours and not one.is_multus]
    for number, (path, one) in enumerate(entries):
        if isinstance(one, ConflistError):
            yield Finding(
                "unreadable" if in_use and number in (0, used) else "unreadable-unused",
                path,
                "We cannot read it." if isinstance(one, OddError) else "The runtime cannot load it.",
                _up(one),
            )
        elif one.is_multus:
            yield from _multus(one, entries)
        elif one.ours:
            yield from _ours(one)
        elif number == used:
            yield from _without_us(one, present)
        elif conflist.host_local(one):
            what = "It uses host-local, has no entry of ours, and a kubelet's runtime uses another one."
            yield Finding("not-in-unused", path, what, f"If podman, nerdctl or multus does use it, put {ENTRY} at its head.")
        if isinstance(one, Conflist) and number == used:
            yield from _platform(one)


def _up(error: ConflistError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _without_us(one: Conflist, present: list[Conflist]) -> Iterator[Finding]:
    if not conflist.host_local(one):
        yield _no_host_local(one)
    elif any(plugin["type"] == OURS for plugin in conflist.drop_ins(one)):
        what = (
            f"Our entry is in the directory {one.name} beside it: libcni before 1.3 ignores that without a word, and later ones"
        )
        advice = f"Put {ENTRY} at the head of `plugins` instead: at the tail an ADD does not reach us while the pool is full."
        yield Finding("drop-in-ours", one.path, what + " put us at the tail.", advice)
    elif one.single:
        what = "It holds one plugin and no list, so there is no chain that we could be in."
        advice = "Run `cni-reaper install --convert`: a .conflist of the same `name` and `cniVersion` is made of it."
        yield Finding("single-plugin", one.path, what, advice)
    elif present:
        what = f"The runtime uses this file, and our entry is in another one: {present[0].path}."
        yield Finding("only-in-unused", one.path, what, f"Put {ENTRY} at the head of `plugins` here.")
    else:
        what = f"{OURS} is not in it: what leaks from its host-local is freed by nobody."
        yield Finding("not-in-chain", one.path, what, f"Run `cni-reaper install`, which puts {ENTRY} at the head of `plugins`.")


def _no_host_local(one: Conflist) -> Finding:
    kinds = sorted({section.kind for section in conflist.ipams(one)})
    what = "No plugin in it uses host-local (%s): we have nothing to free there." % (", ".join(kinds) or "no ipam section")
    return Finding("not-host-local", one.path, what)


def _ours(one: Conflist) -> Iterator[Finding]:
    """Yield what is to be said of a conflist that has us."""
    yield from _place(one)
    yield from _version(one)
    for plugin in one.ours:
        settings, problems = options.read(plugin, one.name)
        if problems:
            advice = "Correct each; with any problem nothing is reaped (docs/options.md)."
            yield Finding("bad-options", one.path, f"Options are wrong: {'; '.join(problems)}.", advice)
        if settings.dry_run:
            yield Finding("dry-run", one.path, "`dryRun` is on: it says what it would free, and frees nothing.")
        if conflist.host_local(one):
            yield from _store(one, settings)
        else:
            yield _no_host_local(one)


def _place(one: Conflist) -> Iterator[Finding]:
    places = [number for number, kind in enumerate(one.types) if kind == OURS]
    if len(places) > 1:
        yield Finding(
            "twice",
            one.path,
            "%s is in it %d times." % (OURS, len(places)),
            "Run `cni-reaper install`, which leaves the first entry only.",
        )
    others = [plugin for plugin in one.plugins if plugin["type"] != OURS]
    at, second = places[0], bool(others) and position.must_come_first(others[0])
    where = "It is number %d of %d plugins" % (at + 1, len(one.plugins))
    if second and at != 1:
        first = others[0]["type"]
        what = f"{where}, and belongs right behind {first}, which takes what a head answers for a master, or for its own result."
        yield Finding("must-be-second", one.path, what, f"Run `cni-reaper install`, which moves {ENTRY} there.")
    elif position.fits(at, others):
        yield Finding("in-place", one.path, where + ".")
    else:
        what = f"{where}: while the pool is full the chain ends before us, and only the DEL that follows frees anything."
        yield Finding("not-first", one.path, what, f"Run `cni-reaper install`, which moves {ENTRY} to the head of `plugins`.")


def _version(one: Conflist) -> Iterator[Finding]:
    if one.version not in SUPPORTED_VERSIONS:
        known = ", ".join(SUPPORTED_VERSIONS)
        what = f"Its `cniVersion` {one.version} is one that we do not speak: each ADD fails with error 1."
        yield Finding("version-unknown", one.path, what, f"Write one of {known}, or install a newer cni-reaper.")
    elif SUPPORTED_VERSIONS.index(one.version) < SUPPORTED_VERSIONS.index(FIRST_LIST_VERSION):
        what = f"Its `cniVersion` {one.version} is older than lists of plugins are."
        yield Finding("version-old", one.path, what, "Write 0.4.0 or 1.0.0, if all its plugins speak that.")


def _store(one: Conflist, settings: Settings) -> Iterator[Finding]:
    """Compare where we look with where the host-local of the same list writes."""
    wrong = False
    for data_dir in dict.fromkeys(section.data_dir for section in conflist.host_local(one)):
        if data_dir != settings.data_dir:
            wrong = True
            what = f"host-local keeps its reservations in {data_dir}, and we look in {settings.data_dir}: nothing is freed."
            yield Finding("data-dir-differs", one.path, what, f'Write "dataDir": "{data_dir}" into our entry.')
    if "*" not in settings.networks and one.name not in settings.networks:
        wrong = True
        what = f"`networks` has {', '.join(settings.networks) or 'nothing'} and not {one.name}, the one of this list."
        yield Finding("network-left-out", one.path, what, f'Add "{one.name}" to `networks`, or leave the option out.')
    if not wrong:
        yield Finding("same-store", one.path, f"host-local keeps its reservations in {settings.data_dir}, and there we look.")


def _multus(one: Conflist, entries: conflist.Found) -> Iterator[Finding]:
    number = position.master(entries)
    at = entries[number][0] if number >= 0 else "the conflist it is made of"
    path, copies = conflist.cluster_network(one), conflist.delegates(one)
    if one.types[0] == "multus-shim" or (path and not copies):
        what = "Multus (thick) runs the chain in its daemon, from %s." % (path or "a network it names")
        advice = (
            "See to it that the daemon has the host's PID namespace and sees /run/netns; else we free nothing, and say `blind`."
        )
        yield Finding("multus-thick", one.path, what, advice)
        yield from _cluster_network(one, path, entries)
    elif copies:
        advice = f"Edit {at}, never this file: it is made anew whenever that changes."
        yield Finding("multus-copy", one.path, f"Multus (thin) made this of a copy of {at}.", advice)
        original = entries[number][1] if number >= 0 else None
        if not isinstance(original, Conflist):
            yield from _ours(copies[0]) if copies[0].ours else _without_us(copies[0], [])
        elif original.name == copies[0].name:
            yield from _compare(one, copies[0], original)
    else:
        yield from _cluster_network(one, "", entries)


def _compare(one: Conflist, copy: Conflist, original: Conflist) -> Iterator[Finding]:
    if original.ours and not copy.ours:
        what = f"We are in {original.path}, and not yet in the copy here that multus runs."
        yield Finding("multus-behind", one.path, what, "Look again in a few seconds; if it stays, restart the multus pod.")
    elif copy.ours and not original.ours:
        what = f"We are in the copy here, and not in {original.path} of which it is made."
        yield Finding("multus-edited", one.path, what, f"Put {ENTRY} at the head there: this copy will be written over.")


def _cluster_network(one: Conflist, path: str, entries: conflist.Found) -> Iterator[Finding]:
    if not path or any(path == known for known, _ in entries):
        return
    try:
        chain = conflist.load(path)
    except ConflistError as e:
        yield Finding("multus-master", one.path, f"It hands on to {path}, which cannot be loaded.", _up(e))
        return
    yield from _ours(chain) if chain.ours else _without_us(chain, [])


def _platform(one: Conflist) -> Iterator[Finding]:
    """Yield the traps of the platform that has written the conflist in use."""
    directory, _, file = one.path.rpartition("/")
    for sign, who in REWRITTEN:
        if conflist.host_local(one) and (sign in one.types or file.startswith(sign)):
            what = f"This file is written again by {who}."
            yield Finding("rewritten", one.path, what, "Have something stay that puts our entry back: docs/install.md.")
            break
    if conflist.files_of(directory, (".cilium_bak",)):
        what = "Cilium has renamed other conflists here to *.cilium_bak."
        yield Finding(
            "cilium-renames", one.path, what, "Set `cni.exclusive=false` in Cilium's values before you put our entry in."
        )
    elif "cilium-cni" in one.types:
        advice = "Set `cni.exclusive=false` if another conflist is to stay, or this one is to keep an entry of ours."
        yield Finding("cilium", one.path, "Cilium renames foreign conflists, and writes its own again, by default.", advice)
    if conflist.has_drop_ins(one):
        what = f"There is a directory {one.name} beside it, of which libcni 1.3 and later appends every *.conf."
        yield Finding("drop-in", one.path, what, "Leave our entry in the list itself: older runtimes ignore the directory.")
