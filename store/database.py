"""One database: how it is opened, brought up to date, read from and written to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from store.errors import StoreError, sentence_for
from store.tables import REVISION, metadata

PROJECT = Path(__file__).resolve().parent.parent
BUSY_SECONDS = 30.0  # how long a transaction waits for another program's write lock
_UPGRADE_LOCK = 0x57AA7A  # the advisory lock that serialises upgrades on PostgreSQL

Clock = Callable[[], datetime]


class Database:
    """An open database: `read()` and `write()` give one transaction each, `now(connection)` the time in UTC.

    Safe to share between threads. On SQLite a write transaction takes the write lock at its first statement
    (BEGIN IMMEDIATE), so two writers wait for each other instead of failing.
    """

    def __init__(self, engine: Engine, clock: Clock | None):
        self.engine = engine
        self.clock = clock

    @property
    def url(self) -> str:
        """The full URL, password included: for child processes, never for logs."""
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        """What messages call this database: the file's path, or the URL without its password."""
        return display_name(self.engine.url)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def now(self, connection: Connection) -> datetime:
        """The time in UTC. Machines that share a PostgreSQL server all read that server's clock."""
        if self.clock is not None:
            return self.clock().astimezone(UTC)
        if self.is_sqlite:
            return datetime.now(UTC)
        return connection.execute(text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)  # type: ignore[no-any-return]

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that sees one state of the database. Raises StoreError."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One short transaction that writes; an exception undoes all of it. Raises StoreError."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                connection = connection.execution_options(strata_write=write)
                if not (write or self.is_sqlite):  # PostgreSQL's default sees another state with each query
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    yield connection
        except DBAPIError as error:
            raise StoreError(sentence_for(error, self.name)) from error

    def close(self) -> None:
        self.engine.dispose()


def display_name(url: URL) -> str:
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)


def home() -> Path:
    """Where the database and its logs lie: STRATA_HOME, else var/ of a checkout, else the user's folder for data."""
    if given := os.environ.get("STRATA_HOME"):
        return Path(given)
    return PROJECT / "var" if (PROJECT / "pyproject.toml").exists() else Path(platformdirs.user_data_dir("strata"))


def default_url() -> str:
    """STRATA_DATABASE, else the file strata.db at `home`."""
    return os.environ.get("STRATA_DATABASE") or f"sqlite:///{home() / 'strata.db'}"


def parse_url(url: str | None) -> URL:
    """The URL of a database; a plain path means an SQLite file, `postgresql://` means the psycopg driver."""
    given = url or default_url()
    try:
        parsed = make_url(given if "://" in given else f"sqlite:///{given}")
    except ArgumentError:
        raise StoreError(
            "The database setting is not a URL; write sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and not parsed.database:
        raise StoreError("The database needs a file, so that the worker can see it; write sqlite:///FILE.")
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.set(database=str(Path(parsed.database or "").resolve()))
    return parsed


def open_engine(url: str | None) -> Engine:
    """An engine with this project's settings, without looking at what is in the database. Raises StoreError."""
    parsed = parse_url(url)
    try:
        if parsed.get_backend_name() == "sqlite":
            assert parsed.database is not None
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = create_engine(parsed, pool_pre_ping=True)
    except OSError as error:
        raise StoreError(f"The folder of the database {parsed.database} cannot be made: {error.strerror}.") from error
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"No driver for {parsed.drivername} databases is installed; use SQLite, or install psycopg for PostgreSQL."
        ) from error
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("strata_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def connect(url: str | None = None, *, clock: Clock | None = None) -> Database:
    """Open a database, making it or bringing it up to date first.

    `url`: an SQLAlchemy URL or a path; default STRATA_DATABASE, else strata.db at `home`. `clock` gives
    the time (tests inject one). Several processes may do this at once: one upgrades, the others wait.
    Raises StoreError: a newer, foreign, damaged, read-only or unreachable database.
    """
    database = Database(open_engine(url), clock)
    try:
        with database.read() as connection:
            revision = _revision(connection, database.name)
        if revision != REVISION:
            with database.write() as connection:
                _upgrade(connection, database.name)
    except BaseException:
        database.close()
        raise
    return database


def _revision(connection: Connection, name: str) -> str | None:
    """The revision of the database, None if it is empty. Raises StoreError for one that is not ours or newer."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables:
            raise StoreError(f"The database {name} belongs to another program; choose another one for Strata.")
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and revision > REVISION:
        raise StoreError(
            f"The database {name} was made by a newer version of Strata (revision {revision}, this one knows "
            f"{REVISION}); update Strata or choose another database."
        )
    return revision


def _upgrade(connection: Connection, name: str) -> None:
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":  # on SQLite the write transaction itself is the lock
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    if _revision(connection, name) == REVISION:
        return  # another process was faster
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "store" / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def insert_ignoring(database: Database, table: Any) -> Any:
    """INSERT that leaves existing rows as they are; both dialects spell it alike but in different modules."""
    if database.is_sqlite:
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    return postgresql_insert(table).on_conflict_do_nothing()


def count_rows(connection: Connection) -> dict[str, int]:
    """Rows of each table, for checks and copies."""
    from sqlalchemy import func

    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }
