"""How fast probes are answered, by each of several ways to run the same model: `python -m benchmarks.probing.run`."""
