"""Django signals for the events that the hooks of ``DjangoTask`` tell.

Each is sent with the class of the task as ``sender``, ``task`` (the task itself) and the arguments of
the hook of the same event, by name. They are for code that watches tasks without subclassing them.
"""

from django.dispatch import Signal

invocation_applied = Signal()
invocation_triggered = Signal()
invocation_unique = Signal()
invocation_ignored = Signal()
invocation_timed_out = Signal()
task_started = Signal()
task_retried = Signal()
task_failed = Signal()
task_succeeded = Signal()
