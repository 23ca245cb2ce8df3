"""Django signals for the same events as the hooks of ``DjangoTask``.

They are for code that watches tasks without subclassing them. The ``sender`` is the class of the task. Receivers get
``task`` (the task itself) and the arguments of the hook, by name.
"""

from django.dispatch import Signal

invocation_applied: Signal = Signal()
invocation_triggered: Signal = Signal()
invocation_unique: Signal = Signal()
invocation_ignored: Signal = Signal()
invocation_timed_out: Signal = Signal()
task_started: Signal = Signal()
task_retried: Signal = Signal()
task_failed: Signal = Signal()
task_succeeded: Signal = Signal()
