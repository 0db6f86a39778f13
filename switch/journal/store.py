"""The journal's table in SQLite or PostgreSQL, by SQLAlchemy Core. Blocks: called in a thread.

Rows are inserted unless their primary key is there, so a batch may be written any number of times, by either node.
SQLite is for a pair on one host: both nodes name one file (WAL; the lead alone writes), which is the truth. Nodes on
two hosts share a PostgreSQL, or keep a file each, with `{node}` in the URL: a takeover goes on in the other one, and a
reader merges them by the primary key.
"""

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, SQLAlchemyError

from switch.journal.rows import Row, bare

KEY = ("pair", "origin", "number")
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
TABLE = sa.Table(
    "journal",
    sa.MetaData(),
    *(
        sa.Column(
            field.name,
            sa.Text if field.type is str else sa.BigInteger,
            primary_key=field.name in KEY,
            autoincrement=False,
            nullable=isinstance(field.type, UnionType),
        )
        for field in msgspec.structs.fields(Row)
    ),
)

# of a damaged file SQLite's module also says that a name is no UTF-8 (ValueError), or that there is no memory for it
FAULTS = (SQLAlchemyError, OSError, ValueError, MemoryError)


class StoreError(OSError):
    """The database did not take or give rows. The text has no value of a row."""


class Store:
    """One database."""

    def __init__(self, url: str, password: str = "", timeout_s: int = 10) -> None:
        """Raises StoreError for a URL that is not of a database we know."""
        try:
            self._engine = _engine(url, password, timeout_s)
        except (SQLAlchemyError, ValueError):  # ValueError: a port or an argument that is no number
            raise StoreError("not a URL of SQLAlchemy") from None
        kind = self._engine.url.get_backend_name()
        self.name = self._engine.url.render_as_string(hide_password=True)
        self._insert = INSERT[kind](TABLE).on_conflict_do_nothing()
        if kind == "sqlite":
            sa.event.listen(self._engine, "connect", _durable)
        self._made = False

    def write(self, rows: Sequence[Row]) -> None:
        """Return when all rows are durable, those that were there before included. Raises StoreError."""
        try:
            self._make()
            try:
                self._put(rows)
            except (DataError, ValueError, OverflowError):
                self._put_singly(rows)
        except FAULTS as error:
            self._made = False  # it may come back as another
            raise StoreError(_describe(error)) from None

    def read(self, *, pair: str, link: str = "", date: str = "", last: int = 0, batch: int = 1000) -> Iterator[Row]:
        """Rows in the order of their key; the last ones only if `last` says how many. Raises StoreError."""
        columns = TABLE.c
        wanted = sa.select(TABLE).where(columns.pair == pair)
        if link:
            wanted = wanted.where(sa.or_(columns.link == link, columns.target == link))
        if date:
            wanted = wanted.where(sa.or_(columns.source_date == date, columns.target_date == date))
        order: list[sa.ColumnElement[Any]] = [columns.origin, columns.number]
        if last:
            newest = wanted.order_by(columns.written_utc.desc(), columns.number.desc()).limit(last).subquery()
            wanted, order = sa.select(newest), [newest.c.origin, newest.c.number]
        try:
            with self._engine.connect() as connection:
                if not sa.inspect(connection).has_table(TABLE.name):
                    return
                for row in connection.execution_options(yield_per=batch).execute(wanted.order_by(*order)):
                    yield _row(row)
        except StoreError:
            raise
        except FAULTS as error:
            raise StoreError(_describe(error)) from None

    def close(self) -> None:
        self._engine.dispose()

    def _make(self) -> None:
        if not self._made:
            TABLE.metadata.create_all(self._engine)
            self._made = True

    def _put(self, rows: Sequence[Row]) -> None:
        with self._engine.begin() as connection:
            connection.execute(self._insert, [msgspec.structs.asdict(row) for row in rows])

    def _put_singly(self, rows: Sequence[Row]) -> None:
        """One of them is refused for what is in it: it stands there without that, and keeps no other out."""
        for row in rows:
            try:
                self._put([row])
            except (DataError, ValueError, OverflowError):
                self._put([bare(row)])


def _engine(url: str, password: str, timeout_s: int) -> sa.Engine:
    """Raises StoreError, and SQLAlchemyError or ValueError for what is no URL."""
    parsed = sa.make_url(url)
    kind = parsed.get_backend_name()
    if kind not in INSERT:
        raise StoreError(f"journal in {kind}: it is one of {', '.join(INSERT)}")
    if kind == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if password:
        parsed = parsed.set(password=password)
    arguments = _postgresql(timeout_s) if kind == "postgresql" else {"timeout": timeout_s}
    return sa.create_engine(
        parsed, pool_size=1, max_overflow=0, pool_pre_ping=True, hide_parameters=True, connect_args=arguments
    )


def _postgresql(timeout_s: int) -> dict[str, Any]:
    """libpq's: a server or a path that is silent ends the connection instead of keeping a thread."""
    return {
        "connect_timeout": timeout_s, "keepalives_idle": timeout_s, "keepalives_interval": 2, "keepalives_count": 3,
        "tcp_user_timeout": timeout_s * 1000, "application_name": "switch journal",
        "options": f"-c statement_timeout={timeout_s}s -c lock_timeout={timeout_s}s",
    }  # fmt: skip


def _durable(connection: Any, _: Any) -> None:
    """Readers beside the writer, and a commit that survives a loss of power (sqlite.org/pragma.html)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _row(columns: Sequence[Any]) -> Row:
    """SQLite holds any type in any column. The error names the column and no value."""
    try:
        return msgspec.convert(dict(zip(Row.__struct_fields__, columns, strict=True)), Row)
    except msgspec.ValidationError as error:
        raise StoreError(f"a row that the switch has not written: {error}") from None


def _describe(error: Exception) -> str:
    """Kinds of errors and PostgreSQL's SQLSTATE: a text could quote a row, or name a password."""
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None)
    names = [type(error).__name__, *([type(cause).__name__] if cause is not None else [])]
    return " ".join([*dict.fromkeys(names), *([str(state)] if state else [])])
