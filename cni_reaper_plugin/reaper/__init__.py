"""What a sweep does, from the quick scan at a network's store to the removed reservation and the line that tells of it."""
