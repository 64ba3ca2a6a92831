"""The benchmark: what a call of the frozen executable costs, beside its neighbours, as ratios of commands run in turn."""
