"""The short way of a message: what Celery works out anew for each call is worked out once for each kind of call.

The contract: :func:`send` puts on the wire exactly what ``celery.Task.apply_async`` would have put there, or lets it do
that. Nothing of Celery or kombu is patched, and nothing is guessed: the first message of a kind, and the first one
through each connection, is sent by Celery while we look on; the next ones fill in the form of it
(:mod:`~django_celery_extensions.forms`). They are sent over the connections of Celery's own pool, and what fails is
tried again as the retry policy says.

Celery's own way is taken for everything else: receivers of the signals of publishing, routers that are functions,
``task_send_sent_event``, canvas, countdowns, transports other than Redis, subclasses with ways of their own, code that
somebody patched.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app import amqp

from django_celery_extensions import redis_channel
from django_celery_extensions.celery_config import configured
from django_celery_extensions.forms import (
    SETTINGS,
    Filling,
    Form,
    Message,
    Watch,
    is_celerys,
    kind_of,
    state_of,
)
from django_celery_extensions.running import running_task
from django_celery_extensions.texts import encoded_body, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_celery_extensions.task import DjangoTask

    Send = Callable[..., Any]

#: Attribute of an app's AMQP object that keeps the forms of its messages (None: it has none), and how many there may be.
FORMS, MOST = "_dce_forms", 1000
_UNKNOWN: Any = object()
#: Set while Celery 5.7 sends the callbacks of a task, which it retries in a way of its own.
_callback: Any = getattr(amqp, "_callback_publish_retry", None)


def send(task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any], by_celery: Send) -> Any:
    """Send a message the short way where that comes to the same, else ``by_celery`` (``celery.Task.apply_async``).

    The arguments have been checked against the signature of the task.
    """
    if isinstance(options.get("producer"), Collecting):
        producer: Collecting = options.pop("producer")
        return producer.send(task, args, kwargs, options, by_celery)
    app: Any = task.app
    kind, running = kind_of(task, args, kwargs, options), running_task(app)
    form, state = _form_of(task, kind, options, by_celery, running)
    if form is not None:
        filling = form.filling(task, args or (), kwargs or {}, options, running)
        if filling is not None and _publish(app, form, filling):
            return _result(task, options["task_id"], running, ignored=form.ignored)
    if state is None:
        return by_celery(args, kwargs, **options)
    with ExitStack() as stack:
        watch = Watch(lambda: stack.enter_context(app.producer_or_acquire()))
        return _watched(watch, task, kind, args, kwargs, options, by_celery, state)


def _watched(
    watch: Watch,
    task: DjangoTask,
    kind: Any,
    args: Any,
    kwargs: Any,
    options: Any,
    by_celery: Send,
    state: Any,
) -> Any:
    """Let Celery send the first message of a kind, and make the form of it."""
    result = by_celery(args, kwargs, producer=watch, **options)
    _forms(task.app)[kind] = watch.form(task, args or (), kwargs or {}, options, state)
    return result


class Collecting:
    """A producer of kombu's whose messages wait for their batch, one ``Producer.batch()``.

    ``push(key, text)`` takes those that go the short way. Nobody but us does anything while a batch is made, so
    what a form depends on is looked at once in it.
    """

    def __init__(self, producer: Any, push: Callable[[str, str], None]) -> None:
        self._producer = producer
        self._push = push
        self._known: dict[Any, Form | None] = {}
        self._channel = producer.channel  # a batch keeps to it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def send(self, task: DjangoTask, args: Any, kwargs: Any, options: dict[str, Any], by_celery: Send) -> Any:
        """Send a message as :func:`send` does."""
        kind, running = kind_of(task, args, kwargs, options), running_task(task.app)
        if kind not in self._known:
            form, state = _form_of(task, kind, options, by_celery, running)
            if form is not None and not redis_channel.is_declared(self._channel, form.queue):
                form = None
            if form is None and state is not None:
                watch = Watch(lambda: self)
                return _watched(watch, task, kind, args, kwargs, options, by_celery, state)
            self._known[kind] = form
        form = self._known[kind]
        if form is not None:
            filling = form.filling(task, args or (), kwargs or {}, options, running)
            if filling is not None and self._collect(task.app, form, filling):
                return _result(task, options["task_id"], running, ignored=form.ignored)
        return by_celery(args, kwargs, producer=self, **options)

    def _collect(self, app: Any, form: Form, filling: Filling) -> bool:
        ready = text_of(self._channel, form, filling, encoded_body(form, filling))
        if ready is None:
            return False
        if not form.ignored:
            with self._producer.connection._reraise_as_library_errors():  # noqa: SLF001 - as Celery does
                app.backend.on_task_call(None, filling.task_id)
        self._push(*ready)
        return True


def _form_of(
    task: DjangoTask, kind: Any, options: dict[str, Any], by_celery: Send, running: Any
) -> tuple[Form | None, tuple[Any, ...] | None]:
    """Return the form of messages of this kind, and what it depends on; None and None: they are Celery's to send.

    ``running`` is the task that a worker runs here.
    """
    app: Any = task.app
    forms = vars(app.amqp).get(FORMS, _UNKNOWN)
    if kind is None or forms is None or _is_watched():
        return None, None
    eager, *settings = configured(app, "task_always_eager", *SETTINGS)
    if eager or (running and app.conf.task_inherit_parent_priority):
        return None, None
    if forms is _UNKNOWN:
        forms = _forms(app)
    form = None if forms is None else forms.get(kind)
    if forms is None or (form is None and (kind in forms or len(forms) >= MOST)):
        return None, None
    state = state_of(task, options, by_celery, settings)
    if form is not None and form.state == state and _queue(app, form.queue) is form.declared:
        return form, state
    if not is_celerys(task, options, by_celery):
        forms[kind] = None
        return None, None
    return None, state


def _queue(app: Any, name: str) -> Any:
    queues: Any = app.amqp.queues
    return dict.get(queues, name) if name not in queues.aliases else queues[name]


def _forms(app: Any) -> Any:
    """Return the forms of an app's messages by their kinds; None where its broker is none that has a short way."""
    try:
        return vars(app.amqp)[FORMS]
    except KeyError:
        forms: Any = {} if redis_channel.serves(app.pool.connection) else None
        vars(app.amqp)[FORMS] = forms
        return forms


def _is_watched() -> bool:
    """Tell whether somebody else has a part in what is sent right now."""
    return bool(
        signals.before_task_publish.receivers
        or signals.after_task_publish.receivers
        or signals.task_sent.receivers
        or (_callback is not None and _callback.get())
    )


def _publish(app: Any, form: Form, filling: Filling) -> bool:
    """Send a message as kombu does; returns False, and has sent nothing, without a connection that is ready for it."""
    encoded = encoded_body(form, filling)  # before a connection is taken, which an error would cost
    try:
        connection = app.pool.acquire()
    except app.pool.LimitExceeded:  # Celery knows how long to wait for one
        return False
    with connection:
        channel = redis_channel.channel_of(connection, form.queue)
        if channel is None:
            return False
        ready = text_of(channel, form, filling, encoded)
        if ready is None:
            return False
        if not form.ignored:
            with connection._reraise_as_library_errors():  # noqa: SLF001 - as Celery does
                app.backend.on_task_call(None, filling.task_id)
        try:
            redis_channel.push(channel, *ready)
        except Exception as exc:  # noqa: BLE001 - kombu decides what it is
            _publish_again(app, connection, form.given, form.message(filling), exc)
    return True


def _publish_again(
    app: Any, connection: Any, given: dict[str, Any], message: Message, exc: Exception
) -> None:
    """Go on as kombu does when sending has failed: connect and try again as the retry policy says, or raise."""
    producer = app.amqp.Producer(connection, auto_declare=False)
    failed = [exc]

    def publish() -> None:
        if failed:
            raise failed.pop()
        again = {**given, "retry": False, "declare": list(given["declare"])}
        producer.publish(message.body, headers=message.headers, **again, **message.properties)

    with connection._reraise_as_library_errors():  # noqa: SLF001 - as Celery does
        if not given["retry"]:
            raise exc
        connection.transport_options.update(given["retry_policy"])
        connection.ensure(producer, publish, **given["retry_policy"])()


def _result(task: DjangoTask, task_id: str, parent: Any, *, ignored: Any) -> Any:
    """Return the result, as ``Celery.send_task`` does; ``parent`` is the task that a worker runs here."""
    result: Any = task.AsyncResult(task_id)
    result.ignored = ignored
    if parent:
        parent.add_trail(result)
    return result
