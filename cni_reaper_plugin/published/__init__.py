"""What a dead pod has published, and taking it back: nothing may lead to an address when it is free."""
