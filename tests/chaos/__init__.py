"""Unique tasks under a nemesis: `python -m tests.chaos --minutes 10 --kills 100` (`make chaos`).

Producers call, workers run, the nemesis kills, freezes and restarts; everybody writes down what it saw
(`history`), and a checker reads it afterwards (`model`, `checker`, `losses`).
"""
