"""The journal of a real pair: every finished transaction has one row, whoever dies and however long the database is away."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from switch_rig import (
    DECLINED_PAN,
    PAN,
    Recording,
    Traffic,
    Wire,
    card_request,
    clean,
    fresh,
    hashes_agree,
    logged,
    rrn,
    settled,
    until,
)

from switch.journal.rows import Row
from switch.journal.store import Store
from tools.kills import duplex
from tools.ledger import FILE as LEDGER
from tools.ledger import Posting, Undoing, read_ledger
from tools.pair import Settings, Switch
from tools.postgres import Postgres

LIMITS = {"heartbeat_ms": 100, "snapshot_entries": 200}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def settings(postgres: Postgres, tmp_path: Path) -> Settings:
    password = tmp_path / "journal-password"
    password.write_text(postgres.password + "\n")
    journal = {"url": postgres.url, "password_file": str(password), "batch_rows": 50, "timeout_s": 5}
    return Settings(limits={**LIMITS, "journal_waiting_max": 50_000}, journal=journal)


def waiting(switch: Switch) -> int:
    found: int = switch.ask("a")["journal"]["waiting"]
    return found


def written(switch: Switch, store: Store) -> list[Row]:
    """All rows of this switch's log, once nothing waits any more: their numbers have no gaps, and none is there twice."""
    settled(switch)
    until(lambda: waiting(switch) == 0, "the journal to be written")
    last = switch.ask("a")["journal"]["last"]
    rows = [row for row in store.read(pair="demo") if row.origin == origin(switch)]
    assert [row.number for row in rows] == [*range(1, last + 1)]
    return rows


def origin(switch: Switch) -> str:
    found: str = switch.ask("a")["journal"]["origin"]
    return found


def every_transaction_once(switch: Switch, rows: list[Row]) -> None:
    """By the switch's own numbers, and by what the issuer has booked."""
    numbers = [row.transaction_id for row in rows if row.kind == "request"]
    assert sorted(numbers) == [*range(1, max(numbers) + 1)]
    advices = [row.advice_id for row in rows if row.advice_id and row.kind != "undone"]
    assert sorted(advices) == [*range(1, max(advices, default=0) + 1)]
    undone = {row.transaction_id for row in rows if row.kind == "undone"}
    approved = [
        row.rrn for row in rows
        if row.kind == "request" and row.decision == "approved" and row.rrn and row.transaction_id not in undone
    ]  # fmt: skip
    made: dict[int, str] = {}
    for entry in read_ledger(switch.directory / "issuer" / LEDGER):
        if isinstance(entry, Posting):
            made[entry.number] = entry.key[0]
        elif isinstance(entry, Undoing):
            made.pop(entry.posting, None)
    assert len(approved) > 100 and sorted(approved) == sorted(made.values())


def die_at(switch: Switch, node: str, point: str) -> None:
    """A life of the node that ends there; then it is started again."""
    process = switch.nodes[node]
    process.kill()
    process.environment = {"SWITCH_POINT": point}
    process.start()
    until(lambda: not process.running(), f"{node} to die at {point}")
    process.environment = {}
    process.start()
    until(lambda: duplex(switch), "the pair to be whole")


@pytest.mark.timeout(300)
def test_each_transaction_has_one_row_though_leads_and_the_database_die(
    start: Callable[..., Switch], settings: Settings, postgres: Postgres
) -> None:
    switch = start(settings)
    store = Store(postgres.url, postgres.password)
    with Traffic(switch, rate=120) as traffic:
        traffic.more(100)
        for point in ("journal.after:3", "journal.before:3"):  # committed and not said; made and not committed
            die_at(switch, "a", point)
            traffic.more(50)
        switch.nodes["b"].kill()
        traffic.more(50)
        switch.start("b", wait=False)
        until(lambda: duplex(switch), "the pair to be whole")
        postgres.kill()
        logged(switch, "journal.failed")
        until(lambda: switch.ask("a")["journal"]["failure"], "the failure in the status")
        before = waiting(switch)
        traffic.more(100)
        assert waiting(switch) > before, "what is finished meanwhile waits"
        switch.nodes["a"].kill()  # and the lead goes while it waits
        traffic.more(50)
        switch.start("a", wait=False)
        postgres.start()
        traffic.more(100)
        until(lambda: duplex(switch), "the pair to be whole")
        until(lambda: waiting(switch) < before, "the database to catch up")
        hashes_agree(switch, 3)
        traffic.stop()
        rows = written(switch, store)
        assert {row.node for row in rows} == {"a", "b"}
        every_transaction_once(switch, rows)
        totals = switch.ask("a", "totals")["totals"]
        requests = [
            row for row in rows if row.kind == "request" and row.link == "terminals" and row.decision == "approved"
        ]
        counted = sum(row["count"] for row in totals if (row["link"], row["counted"]) == ("terminals", "approved"))
        assert counted == len(requests), "the totals are those of the rows"
        pans = {row.pan for row in rows if row.pan}
        assert pans and all(pan[6:-4] == "*" * (len(pan) - 10) for pan in pans)
        clean(switch, traffic)


def test_a_full_journal_declines_requests_by_record_until_the_database_is_back(
    start: Callable[..., Switch], settings: Settings, postgres: Postgres
) -> None:
    switch = start(replace(settings, limits={**LIMITS, "journal_waiting_max": 3}))
    recording = Recording(switch.directory / "own")
    store = Store(postgres.url, postgres.password)
    with Wire(switch.ports.terminals["a"], recording=recording) as wire:
        assert wire.ask(card_request(pan=DECLINED_PAN))[39] == "51"
        postgres.stop()

        def declined() -> bool:
            return wire.ask(card_request(pan=DECLINED_PAN))[39] == "96"

        until(declined, "a decline")
        until(lambda: switch.ask("a")["journal"]["failure"], "the failure in the status")
        status = switch.ask("a")["journal"]
        assert status["waiting"] >= status["waiting_max"] == 3
        logged(switch, "journal.full")
        refused = fresh()
        assert wire.ask(card_request(refused))[39] == "96"
        postgres.start()
        logged(switch, "journal.taken")
        assert wire.ask(card_request(refused))[39] == "00", "what was not accepted may be asked again"
    rows = written(switch, store)
    assert [row.decision for row in rows if row.rrn == rrn(refused)] == ["approved"]
    recording.close()
    switch.stop_nodes()
    assert switch.defects() == []


def test_a_pair_on_one_host_shares_a_file(start: Callable[..., Switch], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    switch = start(Settings(limits={**LIMITS, "journal_waiting_max": 50_000}, journal={"url": url, "batch_rows": 20}))
    with Traffic(switch, traffic="cards", rate=120) as traffic:
        traffic.more(100)
        for point in ("journal.after:2", "journal.before:2"):
            die_at(switch, "a", point)
            traffic.more(50)
        traffic.stop()
        rows = written(switch, Store(url))
        every_transaction_once(switch, rows)
        data = b"".join(path.read_bytes() for path in tmp_path.glob("journal.db*"))
        assert b"TERM" in data or b"SYSTEM" in data or rows[0].terminal.encode() in data
        assert PAN.encode() not in data
        shows_an_operator(switch, rows)
        clean(switch, traffic)


def shows_an_operator(switch: Switch, rows: list[Row]) -> None:
    """switchctl: the journal from its database, the totals from a node, both as JSON and CSV."""

    def control(*arguments: str) -> str:
        command = [sys.executable, "-c", "from switch.ops.switchctl import main; main()", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    where = ("--config", str(switch.config_path))
    told = json.loads(control("journal", *where, "--last", "5", "--json"))["journal"]
    assert [row["number"] for row in told] == [row.number for row in rows[-5:]]
    file = switch.directory / "totals.csv"
    control("totals", *where, "--link", "issuer", "--csv", str(file))
    with file.open() as lines:
        extract = list(csv.DictReader(lines))
    approved = sum(int(row["count"]) for row in extract if row["counted"] == "approved")
    assert {row["link"] for row in extract} == {"issuer"}
    assert approved == sum(row.decision == "approved" and row.kind == "request" for row in rows)
    assert "terminals" in control("totals", *where)
