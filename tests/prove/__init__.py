"""The proof: a model of nodes that looks for a freed live address or a leak that stays, and mutations that it has to catch."""
