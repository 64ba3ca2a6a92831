"""Network namespaces: which there are, whose they are, and which addresses are in them. Nothing is judged here."""
