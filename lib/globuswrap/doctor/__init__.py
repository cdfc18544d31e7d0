"""What can be known to go wrong, before it does, with the exact command that fixes it."""
