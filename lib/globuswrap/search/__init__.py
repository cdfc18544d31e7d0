"""Globus Search: entries from JSON lines or receipts (entries), sent and waited for (ingest)."""
