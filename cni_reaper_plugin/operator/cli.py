"""The door for a person: a command line comes in, an exit code goes out. Each command is loaded when it is asked for."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from cni_reaper_plugin import __version__
from cni_reaper_plugin.operator import commandline
from cni_reaper_plugin.operator.executable import frozen, packed

INTERRUPTED = 130  # as a shell says it of SIGINT
_UNITS = "systemd/"
_UNIT_KINDS = (".path", ".service", ".timer")
_UNIT_DIRECTORY = "/etc/systemd/system"


def run(arguments: list[str]) -> int:
    """Answer a command line, without the program's name, and return the exit code; 2 for a wrong one."""
    _open_what_is_closed()
    parser = commandline.parser()
    try:
        given = parser.parse_args(arguments)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2
    if given.command is None:
        parser.print_help()
        return 0
    try:
        return COMMANDS[given.command](given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as e:
        with suppress(OSError):  # nobody may be left to read it
            where = f"{e.filename}: " if e.filename else ""
            sys.stderr.write(f"cni-reaper {given.command}: {where}{e.strerror or e}\n")
            sys.stderr.flush()
        return 1


def _open_what_is_closed() -> None:
    """Give a stream that the caller has closed something to read from or to write to: what is said there is lost."""
    if sys.stdin is None:
        sys.stdin = open("/dev/null")  # noqa: SIM115  open for as long as the process lives
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open("/dev/null", "w"))  # noqa: SIM115  likewise


def _audit(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.inspect import audit

    return audit.run(_scope(given), audit.Wanted(given.json, given.map, given.all, given.watch))


def _doctor(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.doctor import doctor

    return doctor.run(given.conf_dir, given.bin_dir, given.json)


def _install(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.install import install

    where, wanted = _places(given), install.Wanted(given.options, given.drop_in, not given.no_conflist)
    if given.cleanup and not given.watch:
        sys.stderr.write("cni-reaper install: --cleanup goes with --watch\n")
        return 2
    if given.dry_run:
        return install.dry_run(where, wanted)
    if given.watch:
        from cni_reaper_plugin.operator.install import uninstall
        from cni_reaper_plugin.operator.watch import watch

        return watch.run(where, wanted, (lambda: uninstall.run(where, purge=False, dry_run=False)) if given.cleanup else None)
    if given.settle:
        from cni_reaper_plugin.operator.watch import watch

        return watch.settle(where, wanted)
    return install.run(where, wanted)


def _uninstall(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.install import uninstall

    return uninstall.run(_places(given), given.purge, given.dry_run)


def _places(given: argparse.Namespace) -> Given:
    from cni_reaper_plugin.operator.install.snapshot import Given

    return Given(given.conf_dir, given.bin_dir, [os.path.normpath(path) for path in given.conflist])


def _reap(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.inspect import reap

    return reap.run(_scope(given), dry_run=given.dry_run, force=given.force, yes=given.yes)


def _mend(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.mend import mend

    return mend.run(given.conf_dir, dry_run=given.dry_run, wait=given.wait, as_json=given.json)


def _explain(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator.inspect import explain

    return explain.run(given.what, _scope(given))


def _scope(given: argparse.Namespace) -> Scope:
    from cni_reaper_plugin.operator.scope import Scope

    return Scope(given.network, given.data_dir or "", given.state_dir or "", getattr(given, "subnet", []), given.conf_dir)


def _completion(given: argparse.Namespace) -> int:
    return _print_packed("completion", f"completion.{given.shell}")


def _man(_: argparse.Namespace) -> int:
    return _print_packed("man", "cni-reaper.8")


def _units(given: argparse.Namespace) -> int:
    """Print a unit as it is, or all of them, each below a comment with its path, as `systemctl cat` does."""
    names = sorted(name for name in packed.FILES if name.startswith(_UNITS) and name.endswith(_UNIT_KINDS))
    if given.name or not names:
        return _print_packed("units", _UNITS + (given.name or ""), [name.removeprefix(_UNITS) for name in names])
    for at, name in enumerate(names):
        sys.stdout.write("{}# {}/{}\n".format("\n" if at else "", _UNIT_DIRECTORY, name.removeprefix(_UNITS)))
        sys.stdout.write(packed.FILES[name].decode())
    return 0


def _print_packed(command: str, name: str, known: Sequence[str] = ()) -> int:
    """Print a file that the freeze has packed (packaging/freeze.py), and return the exit code. known: what there is instead."""
    try:
        sys.stdout.write(frozen.packed_file(name).decode())
    except frozen.NotFrozenError as e:
        sys.stderr.write(f"cni-reaper {command}: {e}\n")
        return 1
    except KeyError:
        sys.stderr.write(f"cni-reaper {command}: there is no {name.rpartition('/')[2]}: name one of {', '.join(known)}.\n")
        return 1
    return 0


def _version(given: argparse.Namespace) -> int:
    """Print the version, and on demand what the freeze has noted of itself, and the system."""
    lines = ["cni-reaper " + __version__]
    if given.verbose:
        noted = packed.BUILD or {"commit": "unknown", "kind": "from source", "python": sys.version.replace("\n", "")}
        system = os.uname()
        told = {key: value for key, value in noted.items() if key != "version"}
        told["system"] = f"{system.sysname} {system.release} {system.machine}"
        width = max(map(len, told))
        lines += ["%-*s %s" % (width, key, value) for key, value in told.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


COMMANDS = {
    "audit": _audit,
    "completion": _completion,
    "doctor": _doctor,
    "explain": _explain,
    "install": _install,
    "man": _man,
    "mend": _mend,
    "reap": _reap,
    "uninstall": _uninstall,
    "units": _units,
    "version": _version,
}

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_reaper_plugin.operator.install.snapshot import Given
    from cni_reaper_plugin.operator.scope import Scope
