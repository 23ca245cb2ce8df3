"""Where ZooKeeper is, and how to reach it, as the Celery configuration says: ``zookeeper_hosts``, ``zookeeper_options``.

Nothing here connects, and nothing here needs kazoo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Any

from celery import _state

from django_celery_extensions.exceptions import TaskConfigurationError

DEFAULT_HOSTS = "127.0.0.1:2181"
DEFAULT_PORT = 2181
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?")


def hosts() -> str:
    """Return the configured hosts, and the chroot, as kazoo takes them."""
    return parse_hosts(_configured("zookeeper_hosts", DEFAULT_HOSTS))


def options() -> dict[str, Any]:
    """Return the configured arguments of ``KazooClient``: SASL, TLS, ``auth_data`` and the like."""
    value = _configured("zookeeper_options", None)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        msg = f"zookeeper_options is {value!r}; give a dict of arguments of kazoo.client.KazooClient"
        raise TaskConfigurationError(msg)
    return dict(value)


def parse_hosts(value: object) -> str:
    """Return a host list in kazoo's form: ``zk1:2181,[::1]:2183/chroot``.

    A port that is left out is 2181. Raises :class:`TaskConfigurationError` for anything that is no such list.
    """
    if not isinstance(value, str):
        raise _refused(value, "is not a string")
    listed, slash, chroot = value.strip().partition("/")
    if not listed.strip():
        raise _refused(value, "names no host")
    parts = [_parse_host(value, part.strip()) for part in listed.split(",")]
    if slash and any(segment in {"", ".", ".."} for segment in chroot.split("/")):
        raise _refused(value, f"has the chroot {'/' + chroot!r}, which is no path of a node")
    return ",".join(parts) + slash + chroot


def _parse_host(value: str, part: str) -> str:
    if not part:
        raise _refused(value, "has an empty part; remove the comma too many")
    bracketed = _BRACKETED.fullmatch(part)
    if bracketed is not None:
        host, port = bracketed.groups()
        try:
            IPv6Address(host)
        except AddressValueError as exc:
            raise _refused(value, f"has {part!r}, whose brackets hold no IPv6 address") from exc
        return f"[{host}]:{_parse_port(value, part, port)}"
    if part.count(":") > 1:
        raise _refused(value, f"has {part!r}; put an IPv6 address in brackets")
    host, colon, port = part.partition(":")
    if not _HOST.fullmatch(host):
        raise _refused(value, f"has {part!r}, where {host!r} is no host name or address")
    return f"{host}:{_parse_port(value, part, port if colon else None)}"


def _parse_port(value: str, part: str, port: str | None) -> int:
    if port is None:
        return DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise _refused(value, f"has {part!r}, where {port!r} is no port (1 to 65535)")
    return int(port)


def _refused(value: object, what: str) -> TaskConfigurationError:
    return TaskConfigurationError(
        f"zookeeper_hosts {what}: {value!r}; give comma-separated hosts with ports, as in "
        "'zk1:2181,zk2:2181,[::1]:2183', and perhaps a chroot after them, '/celery'"
    )


def _configured(name: str, default: object) -> Any:
    """Return a value of the Celery configuration under any spelling of its name.

    Of whichever app says something: ``current_app`` is another one in another thread, where no app was made the
    default in time, and the heartbeat's thread must not get another session.
    """
    found = []
    for app in _state._get_active_apps():  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
        value = _configured_in(app, name)
        if value is not None and value not in found:
            found.append(value)
    if len(found) > 1:
        msg = (
            f"the Celery apps of this process have different {name}: {', '.join(map(repr, found))}; a process has "
            "one session, so give them the same"
        )
        raise TaskConfigurationError(msg)
    return found[0] if found else default


def _configured_in(app: Any, name: str) -> Any:
    spellings = (name, name.upper(), f"CELERY_{name.upper()}")
    app.conf.get(name)  # reading makes the configuration; before that `changes` is something else
    # What was set on `app.conf` comes before what an object or Django's settings say, whatever the case of either.
    for place in (app.conf.changes or {}, app.conf):
        for spelling in spellings:
            value = place.get(spelling)
            if value is not None:
                return value
    return None
