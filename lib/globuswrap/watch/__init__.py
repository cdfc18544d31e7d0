"""Run a command line for each new file, once: what a trigger is (scanner), what became of it (ledger), the loop (run)."""
