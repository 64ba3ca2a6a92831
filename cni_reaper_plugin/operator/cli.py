"""The command line: what cni-reaper says to a person who runs it by hand."""

import argparse
import posix
import sys

import orjson

from cni_reaper_plugin import __version__, files

_DESCRIPTION = """\
cni-reaper is a CNI plugin: a container runtime runs it, not a person. It stands at the head of a network's
conflist as {"type": "cni-reaper"} and frees, on every ADD, host-local reservations whose container has no
network namespace left."""

_EPILOG = """\
the runtime's protocol, by hand:
  echo '{"cniVersion":"1.1.0"}' | CNI_COMMAND=VERSION cni-reaper
  cnitool add|check|del|gc|status NETWORK /run/netns/NAME    (NETCONFPATH, CNI_PATH set)

options of the conflist entry: dataDir networks stateDir cacheDirs reapOn dryRun graceSeconds budgetMs
logFile logLevel; each is explained in the project's docs/options.md. What was reaped and why is in syslog
(ident cni-reaper) and in logFile."""


def run(arguments: list[str]) -> int:
    """Answer a command line, without the program's name, and return the exit code; 2 for a wrong one."""
    parser = argparse.ArgumentParser(
        "cni-reaper", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version="cni-reaper " + __version__)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    version = commands.add_parser("version", help="print the version; --verbose: also commit, interpreter and kind of build")
    version.add_argument("--verbose", action="store_true", help="what this executable was made of")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2
    if given.command == "version":
        _print_version(given.verbose)
    else:
        parser.print_help()
    return 0


def _print_version(verbose: bool) -> None:
    """Print the version, and on demand what the freeze has written down about itself in build.json."""
    lines = ["cni-reaper " + __version__]
    if verbose:
        try:
            noted = orjson.loads(files.read(getattr(sys, "_MEIPASS", "") + "/build.json"))
        except (OSError, ValueError):
            noted = {"commit": "unknown", "kind": "from source", "python": sys.version.replace("\n", "")}
        lines += ["%-7s %s" % (name, noted.get(name, "unknown")) for name in ("commit", "kind", "python")]
        system = posix.uname()
        lines.append("%-7s %s %s %s" % ("system", system.sysname, system.release, system.machine))
    sys.stdout.write("\n".join(lines) + "\n")
