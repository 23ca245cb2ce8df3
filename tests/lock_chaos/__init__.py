"""Locks under a nemesis: `python -m tests.lock_chaos --store redis --minutes 10` (`make chaos-locks`).

Clients and workers take locks, semaphores and mutexes and write through them to a register that compares fences; the
nemesis kills, freezes and restarts; everybody writes down what it saw (`tests.chaos.history`), and a checker reads
it afterwards (`model`, `checker`, `registers`).
"""
