"""`cni-reaper doctor`: is this node set up so that leaks are freed?"""
