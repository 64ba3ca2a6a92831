"""The door for a person: a command line comes in, an exit code goes out. Each command is loaded when it is asked for."""

import argparse
import posix
import posixpath
import sys
from contextlib import suppress

import orjson

from cni_reaper_plugin import __version__, files
from cni_reaper_plugin.operator import commandline

INTERRUPTED = 130  # as a shell says it of SIGINT


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
            where = "%s: " % e.filename if e.filename else ""
            sys.stderr.write("cni-reaper %s: %s%s\n" % (given.command, where, e.strerror or e))
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
    from cni_reaper_plugin.operator import audit

    return audit.run(_scope(given), audit.Wanted(given.json, given.map, given.all, given.watch))


def _doctor(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator import doctor

    return doctor.run(given.conf_dir, given.bin_dir, given.json)


def _install(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator import install, preview

    where, wanted = _places(given), install.Wanted(given.options, given.convert, given.drop_in, not given.no_conflist)
    if given.cleanup and not given.watch:
        sys.stderr.write("cni-reaper install: --cleanup goes with --watch\n")
        return 2
    if given.dry_run:
        return preview.run(where, wanted)
    if given.watch:
        from cni_reaper_plugin.operator import uninstall, watch

        return watch.run(where, wanted, (lambda: uninstall.run(where, purge=False, dry_run=False)) if given.cleanup else None)
    if given.settle:
        from cni_reaper_plugin.operator import watch

        return watch.settle(where, wanted)
    return install.run(where, wanted)


def _uninstall(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator import uninstall

    return uninstall.run(_places(given), given.purge, given.dry_run)


def _places(given: argparse.Namespace) -> "Given":
    from cni_reaper_plugin.operator.targets import Given

    return Given(given.conf_dir, given.bin_dir, [posixpath.normpath(path) for path in given.conflist])


def _reap(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator import reaping

    return reaping.run(_scope(given), dry_run=given.dry_run, force=given.force, yes=given.yes)


def _explain(given: argparse.Namespace) -> int:
    from cni_reaper_plugin.operator import explain

    return explain.run(given.what, _scope(given))


def _scope(given: argparse.Namespace) -> "Scope":
    from cni_reaper_plugin.operator.scope import Scope

    return Scope(given.network, given.data_dir or "", given.state_dir or "", getattr(given, "subnet", []), given.conf_dir)


def _completion(given: argparse.Namespace) -> int:
    """Print the script that the freeze has made (packaging/freeze.py)."""
    try:
        sys.stdout.write(files.read("%s/share/completion.%s" % (_bundle(), given.shell)).decode())
    except OSError as e:
        sys.stderr.write("cni-reaper completion: it comes with the frozen executable: %s\n" % e)
        return 1
    return 0


def _version(given: argparse.Namespace) -> int:
    """Print the version, and on demand what the freeze has written down about itself in build.json."""
    lines = ["cni-reaper " + __version__]
    if given.verbose:
        try:
            noted = orjson.loads(files.read(_bundle() + "/build.json"))
        except (OSError, ValueError):
            noted = {"commit": "unknown", "kind": "from source", "python": sys.version.replace("\n", "")}
        lines += ["%-7s %s" % (name, noted.get(name, "unknown")) for name in ("commit", "kind", "python")]
        system = posix.uname()
        lines.append("%-7s %s %s %s" % ("system", system.sysname, system.release, system.machine))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _bundle() -> str:
    """Return the directory of what is frozen with us, "" when we are not frozen."""
    return str(getattr(sys, "_MEIPASS", ""))


COMMANDS = {
    "audit": _audit,
    "completion": _completion,
    "doctor": _doctor,
    "explain": _explain,
    "install": _install,
    "reap": _reap,
    "uninstall": _uninstall,
    "version": _version,
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_reaper_plugin.operator.scope import Scope
    from cni_reaper_plugin.operator.targets import Given
