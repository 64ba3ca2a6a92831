"""The doctor on conflists: are we in the one that is used, once, at the right place, and with options that fit the rest of it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_reaper_plugin import options
from cni_reaper_plugin.cni_versions import SUPPORTED_VERSIONS
from cni_reaper_plugin.operator.conflists import conflist, position
from cni_reaper_plugin.operator.conflists.conflist import OURS, Conflist, ConflistError
from cni_reaper_plugin.operator.doctor import catalogue

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

    from cni_reaper_plugin.operator.doctor.catalogue import Finding
    from cni_reaper_plugin.options import Settings


def check(entries: conflist.Found, in_use: bool = True) -> Iterator[Finding]:
    """Yield what is to be said of the files of one directory, in the order in which the runtime sorts them.

    in_use: the runtime of pods reads this directory; else it is podman's, or of the past.
    """
    used = position.master(entries) if in_use else -1
    present = [one for _, one in entries if isinstance(one, Conflist) and one.ours and not one.is_multus]
    for number, (path, one) in enumerate(entries):
        if isinstance(one, ConflistError):
            stops = in_use and number in (0, used)
            yield (catalogue.UNREADABLE if stops else catalogue.UNREADABLE_UNUSED).at(path, trouble=_up(one))
        elif one.is_multus:
            yield from _multus(one, entries)
        elif one.ours:
            yield from _ours(one)
        elif number == used:
            yield from _without_us(one, present)
        elif conflist.host_local(one):
            yield catalogue.NOT_IN_UNUSED.at(path)
        if isinstance(one, Conflist) and number == used:
            yield from _platform(one)


def _up(error: ConflistError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _without_us(one: Conflist, present: list[Conflist]) -> Iterator[Finding]:
    if not conflist.host_local(one):
        yield _no_host_local(one)
    elif any(plugin["type"] == OURS for plugin in conflist.drop_ins(one)):
        yield catalogue.DROP_IN_OURS.at(one.path, name=one.name)
    elif one.single:
        yield catalogue.SINGLE_PLUGIN.at(one.path)
    elif present:
        yield catalogue.ONLY_IN_UNUSED.at(one.path, other=present[0].path)
    else:
        yield catalogue.NOT_IN_CHAIN.at(one.path)


def _no_host_local(one: Conflist) -> Finding:
    kinds = sorted({section.kind for section in conflist.ipams(one)})
    return catalogue.NOT_HOST_LOCAL.at(one.path, kinds=", ".join(kinds) or "no ipam section")


def _ours(one: Conflist) -> Iterator[Finding]:
    """Yield what is to be said of a conflist that has us."""
    yield from _place(one)
    yield from _version(one)
    for plugin in one.ours:
        settings, problems = options.read(plugin, one.name)
        if problems:
            yield catalogue.BAD_OPTIONS.at(one.path, problems="; ".join(problems))
        if settings.dry_run:
            yield catalogue.DRY_RUN.at(one.path)
        if conflist.host_local(one):
            yield from _store(one, settings)
        else:
            yield _no_host_local(one)


def _place(one: Conflist) -> Iterator[Finding]:
    places = [number for number, kind in enumerate(one.types) if kind == OURS]
    if len(places) > 1:
        yield catalogue.TWICE.at(one.path, count=len(places))
    others = [plugin for plugin in one.plugins if plugin["type"] != OURS]
    at, second = places[0], bool(others) and position.must_come_first(others[0])
    number, count = at + 1, len(one.plugins)
    if second and at != 1:
        yield catalogue.MUST_BE_SECOND.at(one.path, number=number, count=count, first=others[0]["type"])
    elif position.fits(at, others):
        yield catalogue.IN_PLACE.at(one.path, number=number, count=count)
    else:
        yield catalogue.NOT_FIRST.at(one.path, number=number, count=count)


def _version(one: Conflist) -> Iterator[Finding]:
    if one.version not in SUPPORTED_VERSIONS:
        yield catalogue.VERSION_UNKNOWN.at(one.path, version=one.version, known=", ".join(SUPPORTED_VERSIONS))
    elif SUPPORTED_VERSIONS.index(one.version) < SUPPORTED_VERSIONS.index(FIRST_LIST_VERSION):
        yield catalogue.VERSION_OLD.at(one.path, version=one.version)


def _store(one: Conflist, settings: Settings) -> Iterator[Finding]:
    """Compare where we look with where the host-local of the same list writes."""
    wrong = False
    for data_dir in dict.fromkeys(section.data_dir for section in conflist.host_local(one)):
        if data_dir != settings.data_dir:
            wrong = True
            yield catalogue.DATA_DIR_DIFFERS.at(one.path, theirs=data_dir, ours=settings.data_dir)
    if "*" not in settings.networks and one.name not in settings.networks:
        wrong = True
        yield catalogue.NETWORK_LEFT_OUT.at(one.path, networks=", ".join(settings.networks) or "nothing", name=one.name)
    if not wrong:
        yield catalogue.SAME_STORE.at(one.path, data_dir=settings.data_dir)


def _multus(one: Conflist, entries: conflist.Found) -> Iterator[Finding]:
    number = position.master(entries)
    at = entries[number][0] if number >= 0 else "the conflist it is made of"
    path, copies = conflist.cluster_network(one), conflist.delegates(one)
    if one.types[0] == "multus-shim" or (path and not copies):
        yield catalogue.MULTUS_THICK.at(one.path, path=path or "a network it names")
        yield from _cluster_network(one, path, entries)
    elif copies:
        yield catalogue.MULTUS_COPY.at(one.path, original=at)
        original = entries[number][1] if number >= 0 else None
        if not isinstance(original, Conflist):
            yield from _ours(copies[0]) if copies[0].ours else _without_us(copies[0], [])
        elif original.name == copies[0].name:
            yield from _compare(one, copies[0], original)
    else:
        yield from _cluster_network(one, "", entries)


def _compare(one: Conflist, copy: Conflist, original: Conflist) -> Iterator[Finding]:
    if original.ours and not copy.ours:
        yield catalogue.MULTUS_BEHIND.at(one.path, original=original.path)
    elif copy.ours and not original.ours:
        yield catalogue.MULTUS_EDITED.at(one.path, original=original.path)


def _cluster_network(one: Conflist, path: str, entries: conflist.Found) -> Iterator[Finding]:
    if not path or any(path == known for known, _ in entries):
        return
    try:
        chain = conflist.load(path)
    except ConflistError as e:
        yield catalogue.MULTUS_MASTER.at(one.path, path=path, trouble=_up(e))
        return
    yield from _ours(chain) if chain.ours else _without_us(chain, [])


def _platform(one: Conflist) -> Iterator[Finding]:
    """Yield the traps of the platform that has written the conflist in use."""
    directory, _, file = one.path.rpartition("/")
    for sign, who in REWRITTEN:
        if conflist.host_local(one) and (sign in one.types or file.startswith(sign)):
            yield catalogue.REWRITTEN.at(one.path, writer=who)
            break
    if conflist.files_of(directory, (".cilium_bak",)):
        yield catalogue.CILIUM_RENAMES.at(one.path)
    elif "cilium-cni" in one.types:
        yield catalogue.CILIUM.at(one.path)
    if conflist.has_drop_ins(one):
        yield catalogue.DROP_IN.at(one.path, name=one.name)
