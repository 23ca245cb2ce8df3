"""Amazon SQS for the tests: moto's server, which keeps queues in memory."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import kombu

from tests.servers import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

REGION = "us-east-1"


class SQSServer(Server):
    """An SQS of its own."""

    program = "moto"
    package = "none; PyPI: moto[sqs], flask, flask-cors"
    start_timeout = 30.0

    #: What kombu's transport must be told to use it. A worker asks often, for it waits at most a second; kombu 5.5
    #: does nothing else meanwhile.
    transport_options: ClassVar[Mapping[str, Any]] = {
        "is_secure": False,
        "region": REGION,
        "wait_time_seconds": 1 if kombu.VERSION >= (5, 6) else 0,
        "polling_interval": 0.1,
    }

    @classmethod
    def find(cls) -> str | None:
        needed = ("moto", "flask_cors", "boto3")
        return sys.executable if all(map(importlib.util.find_spec, needed)) else None

    def command(self) -> list[str]:
        return [self.binary, "-W", "ignore", "-m", "moto.server", "-H", HOST, "-p", str(self.port)]

    def answers(self) -> bool:
        return self._ask(b"GET /moto-api/ HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.")

    @property
    def url(self) -> str:
        return f"sqs://key:secret@{HOST}:{self.port}"

    def environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "MOTO_ENABLE_RECORDING": "true",
            "MOTO_RECORDER_FILEPATH": str(self.directory / "requests"),
        }

    def sent(self, queue: str | None = None) -> list[Sent]:
        """Return every message that was sent to it (to *queue*), in order, as it arrived; also what it dropped."""
        found = []
        for line in (self.directory / "requests").read_text().splitlines():
            entry = json.loads(line)
            if entry["headers"].get("X-Amz-Target") != "AmazonSQS.SendMessage":
                continue
            request = json.loads(base64.b64decode(entry["body"]))
            name = request["QueueUrl"].rsplit("/", 1)[-1]
            if queue in (None, name):
                message = json.loads(base64.b64decode(request["MessageBody"]))
                found.append(Sent(queue=name, request=request, message=message))
        return found

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue, or are being worked on."""
        url = self.client.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    @cached_property
    def client(self) -> Any:
        """A client of boto3."""
        import boto3

        return boto3.client(
            "sqs",
            endpoint_url=f"http://{HOST}:{self.port}",
            region_name=REGION,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )


@dataclass(kw_only=True, frozen=True)
class Sent:
    """One SendMessage."""

    queue: str
    #: Its parameters: MessageGroupId and the like.
    request: Mapping[str, Any]
    #: What kombu made its body of.
    message: Mapping[str, Any]

    @property
    def task_id(self) -> str:
        return str(self.message["headers"]["id"])

    def given(self, option: str) -> Any:
        """Return an option of the call that kombu was given, whatever it made of it."""
        return self.message["properties"].get(option)

    @property
    def group(self) -> str | None:
        return self.request.get("MessageGroupId")

    @property
    def deduplication(self) -> str | None:
        return self.request.get("MessageDeduplicationId")
