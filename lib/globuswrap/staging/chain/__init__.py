"""A chain: stage in, run the job, stage out, clean up.

Read in this order: `record` (what is on disk), `jobs` (its jobs at the scheduler), `progress` (its steps at Globus),
`observe` (how the compute job ended), `end`, `advance` (the next possible thing), `tend` (who calls `advance`, and until when),
`submit` (the beginning).
"""
