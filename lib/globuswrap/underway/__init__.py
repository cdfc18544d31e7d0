"""What a person's words name, tasks, chains, and keys of any command: how it stands, waiting for it, canceling it."""
