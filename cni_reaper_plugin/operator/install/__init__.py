"""`cni-reaper install` and `uninstall`: into a node, and out of it."""
