"""Permissions of guest collections: who they are for (principals), what is wanted (rules), doing it (actions, deliver)."""
