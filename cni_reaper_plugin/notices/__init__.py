"""What a sweep finds out about the node and says once a boot."""
