"""Celery's own test suite, run with a plain Task and with DjangoTask: `python -m tests.celery_suite`."""
