"""The text of a message on Redis, with blanks: what is the same in all messages of a form is encoded once.

kombu puts a message into three dictionaries, and those into text. A :class:`Text` is made of what kombu makes of one
message of the form, on one channel, and used where filling it in for that message comes to the very same text.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from kombu import serialization
from kombu.utils.json import JSONEncoder, dumps

from django_celery_extensions.forms import Filling
from django_celery_extensions.invocation import new_id

if TYPE_CHECKING:
    from django_celery_extensions.forms import Form

#: Attribute of a channel that keeps the texts of its messages by their forms, and how many there may be.
TEXTS, MOST = "_dce_texts", 1000
#: What kombu calls by the name of a serialiser.
_registry: Any = vars(serialization)["registry"]
#: What kombu's ``dumps`` makes for each text anew.
_ENCODER = JSONEncoder()
_BLANKS = "body task_id root_id parent_id argsrepr kwargsrepr own reply_to tag".split()


def text_of(
    channel: Any, form: Form, filling: Filling, encoded: tuple[str, str, Any]
) -> tuple[str, str] | None:
    """Return the key of a message's queue, and the text that is pushed to it; None where kombu has to make it.

    ``encoded`` is what :func:`encoded_body` returns.
    """
    content_type, encoding, body = encoded
    texts: dict[Any, Text | None] = vars(channel).setdefault(TEXTS, {})
    kind = form, content_type, encoding
    if kind not in texts:
        if len(texts) >= MOST:
            texts.clear()
        texts[kind] = Text.of(channel, form, filling, encoded)
    text = texts[kind]
    return None if text is None else (text.key, text.filled(channel, filling, body))


def encoded_body(form: Form, filling: Filling) -> tuple[str, str, Any]:
    """Return content type, encoding and text of a message's body, as ``kombu.serialization.dumps`` does.

    Raises kombu's ``EncodeError``.
    """
    body, serializer = form.body(filling), form.given["serializer"]
    codec = _registry._encoders.get(serializer)  # noqa: SLF001 - kombu has no public way
    if codec is not None and codec.encoder is dumps:
        try:
            return codec.content_type, codec.content_encoding, _ENCODER.encode(body)
        except Exception:  # noqa: BLE001, S110 - kombu says what is wrong
            pass
    made: tuple[str, str, Any] = serialization.dumps(body, serializer)
    return made


class Text:
    """The text of the messages of one form on one channel."""

    def __init__(self, key: str, blank: str) -> None:
        #: Key of the list in Redis.
        self.key = key
        #: The text, each blank as ``%(name)s``.
        self._blank = blank

    @classmethod
    def of(cls, channel: Any, form: Form, filling: Filling, encoded: tuple[str, str, Any]) -> Text | None:
        """Return that of a form; None where it does not come to what kombu makes of this message."""
        marks = {name: f"{name} {new_id()}" for name in _BLANKS}
        marked = Filling(
            args=(),
            kwargs={},
            **{name: mark for name, mark in marks.items() if name not in ("body", "own", "tag")},
            own={marks["own"]: 0},
        )
        by_kombu = _made(channel, form, marked, encoded)
        by_kombu["body"], by_kombu["properties"]["delivery_tag"] = marks["body"], marks["tag"]
        blank = dumps(by_kombu).replace("%", "%%").replace(f', "{marks["own"]}": 0', "%(own)s")
        for name, mark in marks.items():
            blank = blank.replace(f'"{mark}"', f"%({name})s")
        # What a form is filled in with may say what becomes of it, so this very message is made both ways.
        by_kombu = _made(channel, form, filling, encoded)
        priority = channel._get_message_priority(by_kombu, reverse=False)  # noqa: SLF001 - as its basic_publish does
        text = cls(channel._q_for_pri(form.queue, priority), blank)  # noqa: SLF001 - likewise
        ours = text.filled(channel, filling, encoded[2], by_kombu["properties"]["delivery_tag"])
        return text if ours == dumps(by_kombu) else None

    def filled(self, channel: Any, filling: Filling, body: Any, tag: str | None = None) -> str:
        """Return the text of a message."""
        body, _ = channel.encode_body(body, channel.body_encoding)
        task_id = _quoted(filling.task_id)
        return self._blank % {
            "body": _quoted(body),
            "task_id": task_id,
            "root_id": task_id if filling.root_id is filling.task_id else _quoted(filling.root_id),
            "parent_id": "null" if filling.parent_id is None else _quoted(filling.parent_id),
            "argsrepr": _quoted(filling.argsrepr),
            "kwargsrepr": _quoted(filling.kwargsrepr),
            "own": f", {_ENCODER.encode(filling.own)[1:-1]}" if filling.own else "",
            "reply_to": _quoted(filling.reply_to),
            "tag": f'"{new_id()}"' if tag is None else _quoted(tag),
        }


def _made(channel: Any, form: Form, filling: Filling, encoded: tuple[str, str, Any]) -> dict[str, Any]:
    """Return a message as kombu's ``Producer`` gives it to a channel, and as that puts it into text."""
    content_type, encoding, body = encoded
    given, message = form.given, form.message(filling)
    properties = {**message.properties, "delivery_mode": given["delivery_mode"]}
    made: dict[str, Any] = channel.prepare_message(
        body, given.get("priority", 0), content_type, encoding, message.headers, properties
    )
    channel._inplace_augment_message(made, "", form.queue)  # noqa: SLF001 - as its basic_publish does
    return made


def _quoted(value: Any) -> str:
    """Return a value as JSON has it, as kombu does."""
    return encode_basestring_ascii(value) if type(value) is str else dumps(value)
