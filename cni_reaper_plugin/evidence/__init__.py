"""What can be known about owners: one source of evidence a module, none of which knows another.

`quick_evidence`, `kin` and `full_evidence` put them together.
"""
