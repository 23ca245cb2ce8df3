"""Every option of a call through every door, by what arrives on a real RabbitMQ.

Rows are in `options`, columns in `doors`; `python -m tests.options` writes the table to docs/options-and-doors.md, and
tests/integration/test_options.py has one test for each of its cells.
"""
