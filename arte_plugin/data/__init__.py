"""Tasks and where their questions come from."""
