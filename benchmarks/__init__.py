"""What things cost, measured next to others: `python -m benchmarks.locks`. A benchmark is not a test."""
