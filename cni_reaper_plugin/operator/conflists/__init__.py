"""The conflists of a node: which a runtime reads, and how our entry goes in and comes out."""
