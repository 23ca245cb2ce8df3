"""Walks docs/tutorial.md as a newcomer would: every file and every command of the page, and nothing else."""
