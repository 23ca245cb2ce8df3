"""Where messages go instead of the broker, while a test collects them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: ``f(task, args, kwargs, options)``, called in place of sending; None: messages are sent.
take: Callable[[Any, Any, Any, dict[str, Any]], Any] | None = None
