"""Before a run: how many calls and tokens it takes, how much memory and disk. No weights are loaded."""
