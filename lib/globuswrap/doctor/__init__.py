"""Find problems before they happen, each with the exact command that fixes it."""
