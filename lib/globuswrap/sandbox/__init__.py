"""A local Globus: the services the `globus` command talks to, on 127.0.0.1, with directories as collections.

It exists for demonstrations, tests and rehearsals. It imports nothing of globuswrap but `system` and `errors`, and nothing
but `cli/` imports it. docs/sandbox.md says which of its behaviours are recorded, documented or assumed.
"""
