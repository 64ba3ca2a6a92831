"""What the runtime sees: one call of the CNI protocol, from environment and stdin to result and exit code."""
