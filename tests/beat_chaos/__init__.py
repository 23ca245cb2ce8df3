"""Three beats under a nemesis: `python -m tests.beat_chaos --minutes 10 [--peers]` (`make beat-chaos`).

Ten entries are due every second. Every six seconds the nemesis kills or freezes the beat that fires, and now and then it
kills the store. Beats and workers write down what they do (`tests.chaos.history`); a checker reads it afterwards.
"""
