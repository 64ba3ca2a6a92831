"""What can be known about owners: one source of evidence a module, none of which knows another; `gather` puts them together."""
