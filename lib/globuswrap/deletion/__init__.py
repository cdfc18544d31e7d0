"""The only room that deletes anything: evidence, judge, carry out; used by cleanup, chains, deliveries and syncs."""
