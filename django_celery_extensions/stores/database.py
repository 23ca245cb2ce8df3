"""The steps of a store in Django's database cache: each is a transaction of its own, and one at a time for a name.

The cache's own ``add`` and ``get`` look first and then write: of those who find a value that has ended, several get
in, and one of them deletes what another has just written. So a step begins with a lock of its name: an advisory one
in PostgreSQL and MySQL; elsewhere a row that it writes, and deletes before it commits, for which others have to wait.

A step is never part of a transaction of the caller's, where nobody else would see it before the commit, and nobody
at all after a rollback. Where such a one is open, the step has a connection of its own. SQLite has one writer, so
there it can't: :class:`StoreUnavailable`. Only the transaction that Django's ``TestCase`` wraps around a test is
joined; it hides the database from others anyway.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from django.db import connections, router, transaction
from django.utils import timezone

from django_celery_extensions.exceptions import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.cache.backends.db import DatabaseCache
    from django.db.backends.base.base import BaseDatabaseWrapper


#: Seconds that a step waits in MySQL for the lock of its name; elsewhere it waits as long as the database lets it.
MYSQL_PATIENCE = 50


@contextmanager
def exclusive(cache: DatabaseCache, name: str) -> Iterator[None]:
    """Make the block the only step of that name: what it reads and writes in the cache is one transaction."""
    entry, table = _entry_and_table(cache)
    alias = router.db_for_write(entry)
    digest = sha256(name.encode()).digest()
    with _outside_of_the_caller_s_transaction(alias):
        connection = connections[alias]
        # Also what it reads: a replica may not have heard yet.
        with _in_place_of(router.db_for_read(entry), connection):
            if connection.vendor == "mysql":
                with _lock_in_mysql(connection, f"dce:{digest[:16].hex()}"), transaction.atomic(using=alias):
                    yield
                return
            with transaction.atomic(using=alias):
                if connection.vendor == "postgresql":
                    _lock_in_postgresql(connection, int.from_bytes(digest[:8], "big", signed=True))
                    yield
                else:
                    key = cache.make_and_validate_key(f"dce:step:{digest[:16].hex()}")
                    with _row(connection, table, key):
                        yield


def _entry_and_table(cache: Any) -> tuple[Any, str]:
    return cache.cache_model_class, cache._table  # noqa: SLF001 - Django has no public way


def _lock_in_postgresql(connection: BaseDatabaseWrapper, number: int) -> None:
    """Wait until no other transaction has the lock of that number; it ends with the transaction."""
    # What comes after has to see what others committed while it waited, whatever the project has configured.
    isolation = (
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; " if len(connection.atomic_blocks) == 1 else ""
    )
    with connection.cursor() as cursor:
        cursor.execute(f"{isolation}SELECT pg_advisory_xact_lock({number})")


@contextmanager
def _lock_in_mysql(connection: BaseDatabaseWrapper, name: str) -> Iterator[None]:
    """Have the lock of that name; a row would do too, but those who wait for one there deadlock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", [name, MYSQL_PATIENCE])
        if cursor.fetchone() != (1,):
            msg = f"the lock {name} in MySQL was not to be had within {MYSQL_PATIENCE} seconds"
            raise StoreUnavailable(msg)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT RELEASE_LOCK(%s)", [name])


@contextmanager
def _row(connection: BaseDatabaseWrapper, table: str, key: str) -> Iterator[None]:
    """Have a row of the cache's table; nobody ever sees it there, but whoever wants it waits for the commit."""
    quote = connection.ops.quote_name
    key_column, others = quote("cache_key"), f"{quote('value')}, {quote('expires')}"
    expires = (timezone.now() + timedelta(days=1)).replace(microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {quote(table)} ({key_column}, {others}) VALUES (%s, %s, %s)",  # noqa: S608 - names only
            [key, "-", connection.ops.adapt_datetimefield_value(expires)],
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {quote(table)} WHERE {key_column} = %s", [key])  # noqa: S608 - likewise


@contextmanager
def _outside_of_the_caller_s_transaction(alias: str) -> Iterator[None]:
    """Let the block find a connection under ``alias`` that is in no transaction."""
    callers = connections[alias]
    if not _in_transaction(callers):
        yield
        return
    if callers.vendor == "sqlite":
        msg = (
            f"a transaction is open in the SQLite database {alias!r}, which keeps the cache too: nobody else could see "
            "what is claimed in it. Call on commit (delay_on_commit), or give the cache another database"
        )
        raise StoreUnavailable(msg)
    own = callers.copy()
    own.settings_dict["AUTOCOMMIT"] = True
    try:
        with _in_place_of(alias, own):
            yield
    finally:
        own.close()


def _in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether somebody has a transaction open there that is more than the wrapping of a test."""
    if not connection.in_atomic_block:
        return not connection.get_autocommit()
    outermost: Any = connection.atomic_blocks[0]
    return not outermost._from_testcase  # noqa: SLF001 - as Django tells whether a durable block may be within


@contextmanager
def _in_place_of(alias: str, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let this thread find ``connection`` under ``alias``."""
    before = connections[alias]
    connections[alias] = connection
    try:
        yield
    finally:
        connections[alias] = before
