"""Report what was moved and how it went: one task in full, the history of all, and a summary."""
