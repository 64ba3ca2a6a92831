"""What the bootloader runs last: the hot modules, and then the one door."""

import posix
import sys

import bootstrap

bootstrap.start()
if not posix.environ.get(b"CNI_COMMAND"):
    sys._complete()  # type: ignore[attr-defined]  # bootloader/start.c: a person's call has the whole interpreter

from cni_reaper_plugin.__main__ import main  # noqa: E402  it is there by now

main()
