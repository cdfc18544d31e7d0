"""Transfer many items, in tasks of many items each.

Read in this order: `parse` and `listing` (where items come from), `normalise`, `spool`, `collisions`, `prepare` (all of these,
and the Python call), `batch_run` (one run under a key), `ahead`, `tasks` and `run` (submit and wait), `lookup` (what a key
names).
"""
