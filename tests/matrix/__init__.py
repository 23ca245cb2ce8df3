"""One short scenario on every kind of broker, result backend, cache, pool and version: `python -m tests.matrix`.

A cell is one combination of these. `cells` chooses them, `environments` makes the virtual environments, `places`
starts the servers, `run` plays `scenario` in each cell, with a real worker, and `report` writes docs/matrix.md.
"""
