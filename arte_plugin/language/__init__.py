"""Words: those that models are shown, and reading those that they write. Nothing here needs torch."""
