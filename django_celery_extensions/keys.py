"""The name of a unique task: which calls count as the same one, and how that is written.

``f(5)``, ``f(x=5)`` and ``f(5, y=<its default>)`` are one call; a tuple and the list it becomes in JSON
are one value; 0, None, False and "" are four. The name is made once, by the caller, and travels in the
message (see :mod:`~django_celery_extensions.invocation`).
"""

from __future__ import annotations

import inspect
import json
import re
from hashlib import blake2b, sha256
from itertools import islice, repeat
from operator import is_
from typing import TYPE_CHECKING, Any

from kombu.utils.json import dumps

from django_celery_extensions.exceptions import InvalidOption, TaskConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from celery import Task

#: Types of values that JSON carries, and that are the same before and after it.
_PLAIN = frozenset({str, int, float, bool, type(None)})
_TEXT = frozenset({str})
_MISSING = inspect.Parameter.empty
_REPLACED = ":replaced"
_SORTED = json.JSONEncoder(sort_keys=True)

#: What Memcached and Redis Cluster's hash tags let pass unchanged, with room left for cache prefixes.
_SAFE = re.compile(r"[!-z|~]{1,180}")


def default_unique_key_generator(
    task: Task[..., Any],
    prefix: str,
    task_args: Sequence[Any] | None,
    task_kwargs: Mapping[str, Any] | None,
) -> str:
    """Name a call after its task and its arguments (``unique_keys`` of them, where the task says which).

    Raises :class:`InvalidOption` for arguments that have no JSON form.
    """
    args, kwargs = task_args or (), task_kwargs or {}
    wanted = getattr(task, "unique_keys", None)
    if wanted is None:
        arguments = call_arguments(task, args, kwargs)
    else:
        arguments = named_arguments(task, args, kwargs, wanted)
    try:
        return f"{prefix}:{task.name}:{digest(arguments)}"
    except (TypeError, ValueError) as exc:
        msg = (
            f"{task.name}: no unique key can be made of {arguments!r} ({exc}); pass values that have a JSON form, "
            "name those that do in unique_keys, or give the task a unique_key_generator"
        )
        raise InvalidOption(msg) from exc


def is_plain(values: Iterable[Any]) -> bool:
    """Tell whether all of these are texts, numbers, truth values or None: JSON carries them, and nothing is in them."""
    return _PLAIN.issuperset(map(type, values))


def digest(value: Any) -> str:
    """Return 32 characters that are the same for the same value, before and after JSON.

    Raises ``TypeError`` or ``ValueError`` for a value that has no JSON form.
    """
    plain = _is_plain_dict(value)
    if not plain:
        # Through JSON and back before sorting: 10 and 9 sort as numbers, but as keys they become text.
        value = json.loads(dumps(value))
        plain = _is_plain_dict(value)
    # What has nothing in it needs no encoder, which takes four times as long.
    text = ascii(sorted(value.items())) if plain else _SORTED.encode(value)
    # Python's own, where SHA-256 is OpenSSL's, which looks for it anew each time.
    return blake2b(text.encode(), digest_size=16, usedforsecurity=False).hexdigest()


def _is_plain_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _PLAIN.issuperset(map(type, value.values()))
        and _TEXT.issuperset(map(type, value))
    )


def call_arguments(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument of a call by its name, defaults filled in."""
    dump = getattr(task, "_dump_pydantic_arguments", None)  # Celery 5.7, tasks made with pydantic=True
    if dump is not None:
        args, kwargs = dump(args, kwargs)
    plainly = _bind_plainly(task, args, kwargs)
    if plainly is not None:
        return plainly
    signature = body_signature(task)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as exc:
        if task.typing:
            raise
        # Such a task lets Celery send what its body can't take; the call is still a call.
        return {"*": list(args), "**": dict(kwargs), "!": str(exc)}
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        value = bound.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments["*" + name] = value
        elif parameter.kind is parameter.VAR_KEYWORD:
            # Free names: one that is also that of a positional-only parameter is another argument.
            arguments.update(
                (f"**{free}" if free in arguments else free, given) for free, given in value.items()
            )
        else:
            arguments[name] = value
    return arguments


def _bind_plainly(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Bind as ``inspect`` does, in a fourth of the time; None where there is more to it, or something wrong."""
    names = _plain_names(task)
    if names is None or len(args) > len(names) or not kwargs.keys().isdisjoint(islice(names, len(args))):
        return None
    arguments = {**names, **dict(zip(names, args, strict=False)), **kwargs}
    if len(arguments) > len(names):
        return None
    all_given = len(args) + len(kwargs) == len(names)
    return arguments if all_given or not any(map(is_, arguments.values(), repeat(_MISSING))) else None


def _plain_names(task: Task[..., Any]) -> dict[str, Any] | None:
    """Return the arguments of a body with their defaults; None unless each can be given by place and by name."""
    try:
        found: dict[str, Any] | None = task.__dict__["_plain_names"]
    except KeyError:
        parameters = body_signature(task).parameters.values()
        plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        found = {parameter.name: parameter.default for parameter in parameters} if plain else None
        task.__dict__["_plain_names"] = found
    return found


def named_arguments(
    task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Return those arguments of a call that ``names`` names (``unique_keys``, ``mutex_keys``), in that order."""
    arguments = call_arguments(task, args, kwargs)
    return {name: arguments.get(name, arguments.get("*" + name)) for name in names}


def body_signature(task: Task[..., Any]) -> inspect.Signature:
    """Return the signature of the body of a task, without ``self``."""
    cached: inspect.Signature | None = task.__dict__.get("_body_signature")
    if cached is None:
        cached = inspect.signature(task.run)
        task.__dict__["_body_signature"] = cached
    return cached


def check_argument_names(task: Task[..., Any], option: str, names: Sequence[str]) -> None:
    """Raise :class:`TaskConfigurationError` where ``option`` names an argument that the body does not take."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        msg = f"{task.name}: {option} is {names!r}; give a list or tuple of argument names"
        raise TaskConfigurationError(msg)
    parameters = body_signature(task).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    unknown = [name for name in names if name not in parameters]
    if unknown:
        msg = (
            f"{task.name}: {option} names {', '.join(map(repr, unknown))}, but the task takes "
            f"{', '.join(parameters) or 'no arguments'}"
        )
        raise TaskConfigurationError(msg)


def unique_name(task: Task[..., Any], prefix: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return what the task's own generator says, made safe as a part of a store's key.

    Raises :class:`TaskConfigurationError` unless the generator returns a string that is not empty.
    """
    # Looked up on the class, so that a plain function given to the decorator is not bound as a method;
    # one defined as a method takes the task as its ``self``, which comes to the same call.
    owner: Any = task.__class__  # not type(): a shared task may be a proxy
    generator: Callable[..., Any] = owner.unique_key_generator
    name = generator(task, prefix, args, kwargs)
    if not isinstance(name, str) or not name:
        msg = f"{task.name}: its unique_key_generator returned {name!r}; it must return a string that is not empty"
        raise TaskConfigurationError(msg)
    return _safe(name)


def lease_name(kind: str, name: str, args: Sequence[Any]) -> str:
    """Return the name of a ``kind`` (lock, semaphore, mutex) that is called ``name`` and refined by ``args``.

    Raises :class:`InvalidOption` for a name that is no text, and for arguments that have no JSON form.
    """
    if not name or not isinstance(name, str):
        msg = f"the name of a {kind} is {name!r}; give a string that is not empty"
        raise InvalidOption(msg)
    full = f"{kind}:{name}"
    if args:
        try:
            full += f":{digest(list(args))}"
        except (TypeError, ValueError) as exc:
            msg = f"the {kind} {name} can't be refined by {args!r} ({exc}); pass values that have a JSON form"
            raise InvalidOption(msg) from exc
    return full if _SAFE.fullmatch(full) else _safe(full)


def lease_key(name: str) -> str:
    """Return the start of the keys of a lease. The braces keep them in one Redis Cluster slot."""
    return "dce:{" + name + "}"


def _safe(name: str) -> str:
    if _SAFE.fullmatch(name):
        return name
    readable = re.sub(r"[^!-z|~]+", "_", name)[:100]
    return f"{readable}:{sha256(name.encode()).hexdigest()[:32]}"


def claim_key(name: str) -> str:
    """Return the store's key of the claim. The braces keep it in one Redis Cluster slot with its window."""
    return "{" + name + "}"


def replaced_key(name: str) -> str:
    """Return the store's key of the tasks that lost their claim to a newer one."""
    return claim_key(name) + _REPLACED


def window_key(prefix: str, name: str) -> str:
    """Return the store's key of the ignore window."""
    return prefix + ":" + claim_key(name)


def call_keys(prefix: str, name: str) -> tuple[str, str, str]:
    """Return all three: of the claim, the window and the tasks that lost their claim."""
    claim = claim_key(name)
    return claim, prefix + ":" + claim, claim + _REPLACED
