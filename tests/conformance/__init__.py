"""The protocol, as a runtime sees it: the frozen executable's answers, and CHECK, GC and STATUS between real neighbours."""
