"""The parts, one at a time, in this process."""
