"""host-local's side: its store, and which addresses it can give."""
