"""Values that a call makes many of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    @dataclass_transform(frozen_default=True, kw_only_default=True)
    def record(cls: type, /) -> type:
        """Make a dataclass whose values are given by name and stay as they are.

        Type checkers hold everybody to that. At runtime they are not frozen: making one would take four times as long.
        """
        return dataclass(frozen=True, kw_only=True, slots=True)(cls)
else:
    record = partial(dataclass, kw_only=True, slots=True)
