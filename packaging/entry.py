"""What the bootloader runs last: our one door. bootstrap.py has run all the modules that it needs."""

from cni_reaper_plugin.__main__ import main

main()
