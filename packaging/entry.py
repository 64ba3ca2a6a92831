"""What the bootloader runs last: the one door. bootstrap.py has run all the modules that it needs."""

import posix
import sys

if not posix.environ.get(b"CNI_COMMAND"):
    sys._complete()  # type: ignore[attr-defined]  # bootloader/start.c: a person's call has the whole interpreter

from cni_reaper_plugin.__main__ import main

main()
