"""The parts, one at a time, in this process; nothing here needs a private node."""
