"""switchctl's commands about what is over: the journal, read from its databases, and the totals, asked from a node."""

import csv
import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from switch.config import Config, ConfigError, load
from switch.journal.rows import Row

if TYPE_CHECKING:
    from switch.journal.store import Store

LinkOption = Annotated[str, typer.Option("--link", "-l", help="Of this link only.")]
DateOption = Annotated[str, typer.Option("--date", "-d", help="Of this business date only: MMDD.")]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="Write a file instead.")]
LastOption = Annotated[int, typer.Option("--last", help="So many of the newest; 0: all.")]
SHOWN = ("number", "kind", "link", "target", "message_type", "pan", "amount", "currency", "rrn", "decision",
         "response_code", "written_utc")  # fmt: skip


def stores(loaded: Config, password: str = "") -> "list[Store]":
    """One for each database that the nodes write to; none is connected to yet. Raises StoreError, an OSError, for a bad url."""
    from switch.journal.store import Store  # SQLAlchemy is costly to import

    urls = dict.fromkeys(loaded.journal.url_of(node) for node in "ab" if loaded.journal.url)
    return [Store(url, password, loaded.journal.timeout_s) for url in urls]


def journal_rows(config: Path, link: str, date: str, last: int) -> Iterator[Row]:
    """The rows of all databases that the nodes write to, each once, in the order of their numbers. Exits where one fails."""
    try:
        loaded = load(config)
        databases = stores(loaded, loaded.journal.password())
        if not databases:
            raise SystemExit(f"{config}: there is no journal: [journal] has no url")
        given = [store.read(pair=loaded.pair.name, link=link, date=date, last=last) for store in databases]
        before = None
        for row in heapq.merge(*given, key=lambda row: (row.origin, row.number)):
            if (row.origin, row.number) != before:
                before = (row.origin, row.number)
                yield row
    except (ConfigError, OSError) as error:  # StoreError is one
        raise SystemExit(f"the journal cannot be read: {error}") from None


def chosen(totals: list[dict[str, Any]], link: str, date: str) -> list[dict[str, Any]]:
    """In the order of the extract."""
    wanted = [row for row in totals if link in ("", row["link"]) and date in ("", row["date"])]
    return sorted(wanted, key=lambda row: [row[name] for name in ("link", "date", "profile", "currency", "counted")])


def write_csv(path: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    """RFC 4180, with a line of names."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)


def newest(rows: Iterator[Row], last: int) -> list[Row]:
    """The last ones to be written, in that order; all for 0."""
    ordered = sorted(rows, key=lambda row: (row.written_utc, row.number))
    return ordered[-last:]


def shown(rows: Iterable[Row], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{name: getattr(row, name) for name in names} for row in rows]


def columns() -> tuple[str, ...]:
    """All of a row's."""
    return tuple(field.name for field in msgspec.structs.fields(Row))
