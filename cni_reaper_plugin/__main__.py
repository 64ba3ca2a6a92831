"""One door: CNI_COMMAND set, the runtime calls; arguments, a person does; neither, say what this is."""

import posix

from cni_reaper_plugin.cni_versions import SUPPORTED_VERSIONS
from cni_reaper_plugin.plugin import call

ABOUT = "cni-reaper: a CNI plugin that frees host-local reservations whose network namespace is gone; try cni-reaper --help"


def main() -> None:
    """Run the process to its end. Never returns: the interpreter's own clean-up would cost more than most calls."""
    try:
        code = _run()
    except OSError:
        code = 1  # nobody reads our answer
    posix._exit(code)


def _run() -> int:
    if posix.environ.get(b"CNI_COMMAND"):
        return call.run(posix.environ)
    import sys

    if len(sys.argv) > 1:
        from cni_reaper_plugin.operator import cli

        code = cli.run(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # the caller has closed it
                stream.flush()
        return code
    about = "%s\nCNI protocol versions supported: %s\n" % (ABOUT, ", ".join(SUPPORTED_VERSIONS))
    posix.write(2, about.encode())
    return 0


if __name__ == "__main__":
    main()
