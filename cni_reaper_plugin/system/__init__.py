"""The kernel's and the system's own things, as thin as they can be: files, locks, clocks, netlink, programs."""
