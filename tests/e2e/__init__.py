"""End to end: the frozen executable between real neighbours, in private nodes."""
