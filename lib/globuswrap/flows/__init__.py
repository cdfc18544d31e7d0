"""Globus Flows: a directory that describes a flow (definition), its deployment (deploy), its runs (runs)."""
