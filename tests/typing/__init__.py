"""Uses of the public API that mypy --strict checks. Never run."""
