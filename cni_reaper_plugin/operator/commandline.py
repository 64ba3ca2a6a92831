"""The commands and their options: what a person may write, and what --help, the man page and the completions say of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cni_reaper_plugin import __version__
from cni_reaper_plugin.attachment import valid_name

SHELLS = ("bash", "zsh", "fish")
WATCH_S = 2.0
REASONS = {
    "rebooted": "its container ran before the last reboot",
    "netns-gone": "its container's netns is known, and no longer exists",
    "empty": "the file is empty and names no container",
    "no-netns-left": "no netns is known to be its own, and none on the node may be",
    "unclaimed": "the same, after every netns that might have been its own ended, or after graceSeconds",
    "not-in-gc-list": "the runtime's GC does not list its container",
    "added-again": "the runtime starts its container again, and sent no DEL",
    "left-by-del": "its DEL has come, and no plugin released it",
    "forced": "an operator freed it: reap --force",
}
"""Why an address is freed, by its code (cni_reaper_plugin.reasons), as `explain --help` has it."""

_DESCRIPTION = """\
cni-reaper is a CNI plugin: a container runtime runs it, not a person. It stands at the head of a network's
conflist as {"type": "cni-reaper"} and frees, on every ADD, host-local reservations whose container has no
network namespace left. These commands are for the person who looks after the node; run them as root on the host."""

_EPILOG = """\
the runtime's protocol, by hand:
  echo '{"cniVersion":"1.1.0"}' | CNI_COMMAND=VERSION cni-reaper
  cnitool add|check|del|gc|status NETWORK /run/netns/NAME    (NETCONFPATH, CNI_PATH set)

options of the conflist entry: dataDir networks stateDir cacheDirs cache reapOn dryRun graceSeconds budgetMs
logFile logLevel metricsFile; each is explained in the project's docs/options.md. What was reaped and why is
in syslog (ident cni-reaper) and in logFile."""

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; the command is in `command`, None without one."""
    made = argparse.ArgumentParser("cni-reaper", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Formatter)
    made.add_argument("--version", action="version", version="cni-reaper " + __version__)
    commands = made.add_subparsers(metavar="COMMAND", dest="command")
    _add_audit(commands)
    _add_explain(commands)
    _add_reap(commands)
    _add_mend(commands)
    _add_doctor(commands)
    _add_install(commands)
    _add_uninstall(commands)
    _add_packed(commands)
    version = commands.add_parser("version", help="print the version", description="Print the version.")
    version.add_argument("--verbose", action="store_true", help="also commit, kind of build, versions of all in it, and system")
    return made


def _add(commands: Commands, name: str, summary: str, more: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=(f"{summary[0].upper()}{summary[1:]}. {more}").replace(" \n", "\n").rstrip(),
        epilog=epilog,
        formatter_class=_Formatter,
    )


def _add_where(command: argparse.ArgumentParser, option: str, what: str) -> None:
    """Add an option for directories in which something is."""
    command.add_argument(
        option,
        action="append",
        default=[],
        type=_directory,
        metavar="DIR",
        help=f"where {what} are (repeatable; default: where the runtimes of this node look)",
    )


def _add_scope(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--network", action="append", default=[], type=_network, metavar="NAME", help="only this one (repeatable; default: all)"
    )
    for option, what in (("--data-dir", "host-local's dataDir"), ("--state-dir", "our stateDir")):
        command.add_argument(option, type=_directory, metavar="DIR", help=f"{what} (default: what the conflists say)")
    _add_where(command, "--conf-dir", "conflists")


def _add_audit(commands: Commands) -> None:
    audit = _add(
        commands,
        "audit",
        "show every reservation, whose it is and whether it lives",
        "Changes nothing.",
        "exit code:\n  0  nothing is stale\n"
        "  1  something is: the next ADD frees it; or a file is broken that keeps a pod from ending\n"
        "  2  the store is wrong (an address without a reservation, with two holders, outside the range),\n"
        "     or could not be judged; stderr says why",
    )
    _add_scope(audit)
    audit.add_argument(
        "--subnet",
        action="append",
        default=[],
        metavar="CIDR",
        help="which addresses the network gives (repeatable; default: what its conflist says)",
    )
    audit.add_argument("--map", action="store_true", help="draw the pool instead of the table")
    audit.add_argument("--all", action="store_true", help="all rows, also the LIVE ones of a large network, and whole IDs")
    audit.add_argument("--json", action="store_true", help="print JSON, as docs/audit.schema.json describes it")
    audit.add_argument(
        "--watch",
        nargs="?",
        const=WATCH_S,
        default=0.0,
        type=_interval,
        metavar="SECONDS",
        help="look again so often until ^C (default: 2)",
    )


def _add_reap(commands: Commands) -> None:
    reap = _add(
        commands,
        "reap",
        "sweep now, as an ADD would, and say what was freed and why",
        "An owner that is LIVE is never touched.",
        "exit code:\n  0  swept\n  1  something could not be swept or freed; the lines before say what and why\n"
        "  2  refused: --force without an answer\n  130  ended by ^C or SIGTERM",
    )
    _add_scope(reap)
    reap.add_argument("--dry-run", action="store_true", help="say what would be freed, free nothing")
    reap.add_argument(
        "--force", action="store_true", help="free UNKNOWN owners too: you know that they are dead; asks for each network"
    )
    reap.add_argument("--yes", action="store_true", help="do not ask; for --force where no terminal is")


def _add_mend(commands: Commands) -> None:
    mend = _add(
        commands,
        "mend",
        "remove the broken files that keep pods from ending after a power cut",
        "\n\nThese are files of libcni's cache, of flannel and of multus that are empty or not valid JSON. Before the\n"
        "first pod of a boot it also frees the addresses that a reboot has left, and empty reservations.\n"
        "The files are removed whether or not cni-reaper is installed.",
        "exit code:\n  0  nothing broken is left, or it was written less than 30 s ago\n"
        "  1  something could not be read, removed or freed; stderr says what and why",
    )
    _add_where(mend, "--conf-dir", "conflists")
    mend.add_argument("--dry-run", action="store_true", help="say what would be removed and freed, do nothing")
    mend.add_argument("--wait", action="store_true", help="stay until no file has to wait, at most a minute")
    mend.add_argument("--json", action="store_true", help="print JSON, as docs/commands.md has it")


def _add_explain(commands: Commands) -> None:
    explain = _add(
        commands,
        "explain",
        "tell why a reservation is kept or freed",
        "Every piece of evidence, the rule that decided, and what would change the verdict.",
        "exit code:\n  0  told\n  1  no such reservation\n  2  it could not be judged; stderr says why\n\n"
        "reasons (`reason=` in the log) for which an address is freed:\n{}".format(
            "\n".join("  %-16s%s" % one for one in REASONS.items())
        ),
    )
    explain.add_argument("what", type=_some, metavar="ADDRESS|ID", help="an address, or the beginning of a container ID")
    _add_scope(explain)


def _add_doctor(commands: Commands) -> None:
    doctor = _add(
        commands,
        "doctor",
        "look whether this node is set up so that leaks are freed",
        "Conflists, our place in the chain, executables, and whether we see what the runtime sees. Changes nothing.",
        "exit code:\n  0  nothing to do\n  1  there are warnings\n  2  there are errors",
    )
    _add_places(doctor)
    doctor.add_argument("--json", action="store_true", help="print JSON, as docs/doctor.md has it")


def _add_places(command: argparse.ArgumentParser) -> None:
    _add_where(command, "--conf-dir", "conflists")
    _add_where(command, "--bin-dir", "the plugins' executables")


def _add_conflists(command: argparse.ArgumentParser, what: str) -> None:
    _add_places(command)
    command.add_argument("--conflist", action="append", default=[], type=_directory, metavar="FILE", help=what)


def _add_install(commands: Commands) -> None:
    install = _add(
        commands,
        "install",
        "put the executable beside the other plugins, and our entry into the conflist",
        "Every other byte of the conflist stays. Changes nothing where everything is in its place.",
        "exit code:\n  0  everything is in its place\n  1  something could not be done; stderr says what and why",
    )
    _add_conflists(install, "this one (repeatable; default: the one in use in each directory)")
    install.add_argument("--options", type=_options, metavar="JSON", help="options of our entry, in place of those it has")
    install.add_argument("--drop-in", action="store_true", help="write a file of our own that libcni 1.3 appends to the list")
    install.add_argument("--no-conflist", action="store_true", help="only the executable; something else sees to the entry")
    install.add_argument("--dry-run", action="store_true", help="show what would be done, the conflist's part as a diff")
    staying = install.add_mutually_exclusive_group()
    staying.add_argument("--watch", action="store_true", help="stay, and put the entry back when somebody has rewritten the file")
    staying.add_argument("--settle", action="store_true", help="stay until nothing has changed for a second; for a systemd unit")
    install.add_argument("--cleanup", action="store_true", help="with --watch: uninstall when ended by SIGTERM")


def _add_uninstall(commands: Commands) -> None:
    uninstall = _add(
        commands,
        "uninstall",
        "take our entry out of every conflist, then remove the rest",
        "Executable and records stay while a runtime may still call us for the DEL of a pod.",
        "exit code:\n  0  our entry is nowhere\n  1  something could not be done; stderr says what and why",
    )
    _add_conflists(uninstall, "only this one (repeatable), and leave executable and records")
    uninstall.add_argument("--purge", action="store_true", help="remove executable and records in any case")
    uninstall.add_argument("--dry-run", action="store_true", help="show what would be done, the conflists' part as a diff")


def _add_packed(commands: Commands) -> None:
    """Add the commands that print what is packed into the executable."""
    completion = _add(
        commands,
        "completion",
        "print a script that completes these commands",
        "",
        "  cni-reaper completion bash >/etc/bash_completion.d/cni-reaper\n"
        "  cni-reaper completion zsh >/usr/share/zsh/site-functions/_cni-reaper\n"
        "  cni-reaper completion fish >/usr/share/fish/vendor_completions.d/cni-reaper.fish",
    )
    completion.add_argument("shell", choices=SHELLS)
    _add(commands, "man", "print the man page", "", "  cni-reaper man | man -l -")
    units = _add(
        commands,
        "units",
        "print the systemd units that put the entry back, and mend",
        "Without a name all of them, each below a comment with its path.",
        "  cni-reaper units cni-reaper-install.service >/etc/systemd/system/cni-reaper-install.service",
    )
    units.add_argument("name", nargs="?", metavar="NAME", help="only this one, as it is")


def _some(text: str) -> str:
    if not text:
        msg = "an address, or the beginning of a container ID, is wanted"
        raise argparse.ArgumentTypeError(msg)
    return text


def _network(name: str) -> str:
    if not valid_name(name):
        msg = f"{name!r} is no name of a network"
        raise argparse.ArgumentTypeError(msg)
    return name


def _directory(path: str) -> str:
    if not path.startswith("/"):
        msg = f"{path!r} is no absolute path"
        raise argparse.ArgumentTypeError(msg)
    return path.rstrip("/") or "/"


def _options(text: str) -> dict[str, object]:
    import orjson

    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError as e:
        msg = f"it is not valid JSON: {e}"
        raise argparse.ArgumentTypeError(msg) from None
    if not isinstance(told, dict):
        msg = 'a JSON object is wanted, such as \'{"logFile": "/var/log/cni-reaper.log"}\''
        raise argparse.ArgumentTypeError(msg)
    return told


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        msg = f"{text!r} is no number of seconds from 0.1 to 86400"
        raise argparse.ArgumentTypeError(msg)
    return seconds
