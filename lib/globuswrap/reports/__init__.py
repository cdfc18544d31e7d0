"""What was moved and how it went, for people: one task in full, the history of all, and a report of it."""
