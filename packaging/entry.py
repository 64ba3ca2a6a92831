"""What the bootloader runs last: tell the packages where their cold modules lie, and go through the one door."""

import sys

from cni_reaper_plugin.__main__ import main

# The bootloader makes each hot module without a package's search path; cold modules are found by it.
for _package in {_name.rpartition(".")[0] for _name in sys.modules if _name.startswith("cni_reaper_plugin.")}:
    sys.modules[_package].__path__ = [sys._MEIPASS + "/" + _package.replace(".", "/")]  # type: ignore[attr-defined]

main()
