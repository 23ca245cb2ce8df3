"""Which of the two databases a model lives in."""

from typing import Any

from django.db.models import Model

LOG_DATABASE = "log"
LOG_MODELS = frozenset({"invocationevent"})


class LogRouter:
    """Keeps the event log in a database of its own.

    A hook runs inside the caller's transaction. Were its line written through the same connection, the rollback of
    an order would take with it the only trace of what was asked.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Read the log from the log's database."""
        return LOG_DATABASE if model._meta.model_name in LOG_MODELS else None  # noqa: SLF001 - Django documents it

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        """Make each table in its own database only."""
        return (db == LOG_DATABASE) == (model_name in LOG_MODELS)
