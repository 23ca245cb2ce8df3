"""`wholefiles://`: kombu's filesystem broker, with messages that appear whole.

kombu writes a message where readers look for it, and a worker that reads it half written loses it and exits with
JSONDecodeError: on a busy machine about one in two hundred retries of `tests/integration/test_brokers.py` ended so.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from time import monotonic
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: dict[str, Any], **kwargs: Any) -> None:
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        message = Path(self.data_folder_out, name)
        written = message.with_suffix(".writing")  # readers look for ".msg"
        written.write_text(dumps(payload))
        written.replace(message)


class Transport(filesystem.Transport):
    Channel = Channel
