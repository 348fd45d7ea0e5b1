"""How fast students are evaluated, against lm-eval's own model: `python -m benchmarks.evaluation.run`."""
