"""The command line: what cni-reaper says to a person who runs it by hand."""

import argparse

from cni_reaper_plugin import __version__

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
    try:
        parser.parse_args(arguments)
        parser.print_help()
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2
    return 0
