"""What the tests stand on: private nodes, the real programs, calls of them, and what is left on a node."""
