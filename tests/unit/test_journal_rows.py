"""Rows of the journal: masked facts of each rail, and the table they go into: once each, durable, whatever is in them."""

from typing import Any

import pytest
import sqlalchemy as sa
from engines import DIALECT, Pair, answer_to, card, rules, status, transfer
from msgspec.structs import replace

from messages.facts import masked, text
from switch.core.rules import Limits
from switch.journal.rows import Row, Rows, bare
from switch.journal.store import Store, StoreError

PAN = "4111111111111111"
MADE = Rows("pair", "token", "a")


def journal(pair) -> list[Row]:
    wires = pair.engines["a"].wires
    return [
        MADE.row(number, item, wires, "2026-03-01T10:00:00.000+00:00") for number, item in pair.state.journal.items()
    ]


@pytest.fixture
def pair():
    return Pair(rules(limits=Limits(journal_waiting_max=100)))


@pytest.fixture
def paid(pair) -> list[Row]:
    terminal, net = pair.accept(), pair.connect()
    for number in (1, 2):
        pair.receive(terminal, card(number))
        pair.receive(net, answer_to(pair.forwarded(net)))
        pair.ack(terminal)
    return journal(pair)


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/journal.db", timeout_s=1)
    yield store
    store.close()


def test_a_row_of_a_card_payment(paid):
    row = paid[0]
    assert (row.pair, row.origin, row.number, row.kind, row.link, row.target) == (
        "pair",
        "token",
        1,
        "request",
        "pos",
        "net",
    )
    assert (row.message_type, row.processing_code, row.pan) == ("0200", "000000", "411111******1111")
    assert (row.amount, row.currency, row.approved_amount) == (1_000, "978", None)
    assert (row.stan, row.rrn, row.terminal, row.merchant) == ("000001", "000000000001", "TERM0001", "MERCHANT0000001")
    assert (row.transmission, row.local_time, row.acquirer) == ("0301100000", "0301100000", "123456")
    assert (row.decision, row.response_code, row.transaction_id, row.flaw) == ("approved", "00", 1, "")
    assert row.outbound_stan > 0 and row.node == "a"


def test_no_row_holds_a_card_number_or_a_track(paid):
    told = repr([getattr(row, name) for row in paid for name in Row.__struct_fields__])
    assert PAN not in told and "28121011234567890" not in told and "0123456789ABCDEF" not in told


def test_a_card_number_that_stood_in_the_track_only_is_masked_too(pair):
    terminal = pair.accept()
    body = card()
    raw = {number: part for number, part in DIALECT.decode(body).raw.items() if number != 2}
    pair.receive(terminal, DIALECT.assemble("0200", raw))
    assert [row.pan for row in journal(pair)] == ["411111******1111"]


def test_a_row_of_a_transfer(pair):
    bank, hub = pair.accept("bank"), pair.connect("hub")
    pair.receive(bank, transfer())
    pair.receive(hub, status(code="RJCT"))
    pair.ack(bank)
    (row,) = journal(pair)
    assert (row.message_type, row.message_id, row.end_to_end_id) == ("pacs.008.001.08", "M-1", "E-1")
    assert (row.instructing_agent, row.instructed_agent) == ("DEBTDEFFXXX", "CSMXBEBB")
    assert (row.decision, row.response_code) == ("declined", "RJCT")


def test_what_a_link_that_is_gone_has_done_still_gets_its_row(pair, paid):
    del pair.engines["a"].wires["pos"]
    told = [(row.number, row.flaw, row.pan) for row in journal(pair)]
    assert told == [(1, "the link is gone", ""), (2, "the link is gone", "")]


def test_a_record_that_cannot_be_read_gets_its_row(pair, paid):
    item = replace(pair.state.journal[1], original=b"\xc1")
    row = MADE.row(1, item, pair.engines["a"].wires, "")
    assert row.flaw and row.message_type == "" and row.response_code == "00"


@pytest.mark.parametrize(
    ("pan", "told"),
    [("", ""), ("411111", "******"), ("4111111111111", "411111***1111"), (PAN + "222", "411111*********1222")],
)
def test_masking(pan, told):
    assert masked(pan) == told


def test_text_is_what_any_database_takes():
    assert text(" A\0B\n\ud800 ") == "A?B??" and len(text("x" * 1000)) == 64


# --- the table


def numbers(store: Store, **wanted: Any) -> list[int]:
    return [row.number for row in store.read(pair="pair", **wanted)]


def test_rows_come_back_as_they_were(store, paid):
    store.write(paid)
    assert list(store.read(pair="pair")) == paid
    assert list(store.read(pair="another")) == []


def test_rows_that_are_there_are_left_alone(store, paid):
    store.write(paid)
    again = [replace(row, node="b", written_utc="later") for row in paid]
    store.write([*again, replace(paid[0], number=3)])
    assert [(row.number, row.node) for row in store.read(pair="pair")] == [(1, "a"), (2, "a"), (3, "a")]


def test_a_log_that_began_anew_does_not_collide_with_the_one_before(store, paid):
    store.write(paid)
    store.write([replace(row, origin="another") for row in paid])
    assert len(list(store.read(pair="pair"))) == 4


def test_rows_are_found_by_link_date_and_number(store, paid):
    store.write([replace(paid[0], target_date="0301"), replace(paid[1], link="x", source_date="0302")])
    assert numbers(store, link="net") == [1, 2] and numbers(store, link="pos") == [1]
    assert numbers(store, date="0301") == [1] and numbers(store, date="0302") == [2] and numbers(store, last=1) == [2]


def test_an_empty_database_has_no_rows(store):
    assert numbers(store) == []


def test_a_row_that_the_database_refuses_keeps_no_other_out(store, paid):
    """What is in it is left out, and it says so."""
    poison = replace(paid[1], amount=1 << 70)
    store.write([paid[0], poison, replace(paid[0], number=3)])
    rows = list(store.read(pair="pair"))
    assert [(row.number, row.flaw) for row in rows] == [(1, ""), (2, "the database refused it"), (3, "")]
    assert rows[1] == bare(poison) and rows[1].pan == "" and rows[1].transaction_id == 2


def test_the_file_survives_a_loss_of_power_after_a_commit(store, paid):
    """As far as SQLite can: WAL, synced at each commit."""
    store.write(paid)
    with store._engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2


def test_a_database_that_cannot_be_used_is_told_without_a_row(tmp_path, paid):
    store = Store(f"sqlite:///{tmp_path}/none/journal.db")
    with pytest.raises(StoreError) as caught:
        store.write(paid)
    assert str(caught.value) == "OperationalError"
    with pytest.raises(StoreError):
        list(store.read(pair="pair"))


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://x/y"])
def test_a_url_of_no_database_that_we_know(url):
    with pytest.raises(StoreError):
        Store(url)


def test_a_password_is_never_told():
    assert "secret" not in Store("postgresql://switch@h/db", "secret").name


def test_a_row_of_other_types_is_refused_by_its_column(paid, store, tmp_path):
    """SQLite holds any type in any column, and whoever can write to the file can put one there."""
    store.write(paid)
    with sa.create_engine(f"sqlite:///{tmp_path}/journal.db").begin() as connection:
        connection.execute(sa.text("UPDATE journal SET amount = 'plenty' WHERE number = 2"))
    rows = store.read(pair="pair")
    assert next(rows) == paid[0]
    with pytest.raises(StoreError, match="amount") as caught:
        next(rows)
    assert "plenty" not in str(caught.value)


def test_a_damaged_file_is_told_and_ends_no_writer(paid, store, tmp_path):
    """SQLite quotes what it cannot read, and Python's module would have that as text."""
    with sa.create_engine(f"sqlite:///{tmp_path}/journal.db").begin() as connection:
        connection.execute(sa.text("CREATE TABLE damaged (x)"))
    file = tmp_path / "journal.db"
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE", b"CRE\xff\xff TABLE"))
    with pytest.raises(StoreError):
        store.write(paid)
    with pytest.raises(StoreError):
        list(store.read(pair="pair"))


@pytest.mark.parametrize(
    "url", ["postgresql://h:port/db", "postgresql://[::1/db", "sqlite://host/x", "sqlite:///x?timeout=long", "sqlite:"]
)
def test_a_url_that_is_none_is_told_and_ends_no_writer(url):
    """`switchctl check` and a reload let it pass: SQLAlchemy is costly to import. What the writer raises ends the node."""
    with pytest.raises(StoreError, match="not a URL"):
        Store(url)
