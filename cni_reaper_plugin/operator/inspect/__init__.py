"""What a person asks about addresses: `audit`, `explain` and `reap`."""
