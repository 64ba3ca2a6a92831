"""cni-reaper: a chained CNI plugin that frees host-local reservations whose network namespace is gone."""

__version__ = "0.1.0"
