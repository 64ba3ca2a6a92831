"""What one call remembers for the next, in /run: it is gone with the boot."""
