"""The writer: the lead alone, in order, a batch at a time, told to the log after the commit; dead databases and leads."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engines import Pair, answer_to, card, rules
from msgspec.structs import replace

from switch.config import Config, Journal
from switch.config import Pair as PairConfig
from switch.core.proposals import Journaled
from switch.core.rules import Limits
from switch.journal import writer as module
from switch.journal.store import Store
from switch.journal.writer import Writer
from switch.mirror.settings import EtcdSettings
from switch.ops.metrics import Metrics

WAIT_S = 20.0


class Nodes:
    """Two engines in memory, a writer for each, one database. What writers submit is applied when `log` is let."""

    def __init__(self, url: str, finished: int, batch_rows: int = 200, timeout_s: int = 10) -> None:
        self.url = url
        self.pair = Pair(rules(limits=Limits(journal_waiting_max=100)))
        self.terminal, self.net = self.pair.accept(node="b"), self.pair.connect(node="b")
        self.finish(finished)
        self.mirror: Any = SimpleNamespace(held=False)
        self.said: list[tuple[str, int]] = []
        self.log = True
        journal = Journal(url=url, batch_rows=batch_rows, timeout_s=timeout_s)
        self.config = Config(
            pair=PairConfig(name="pair", key_file=""), etcd=EtcdSettings(endpoints=()), journal=journal,
            limits=Limits(journal_waiting_max=100),
        )  # fmt: skip
        self.metrics = {node: Metrics(node) for node in "ab"}
        self.writers = {
            node: Writer(lambda: self.config, node, engine, self.mirror, self.submit(node), self.metrics[node])
            for node, engine in self.pair.engines.items()
        }

    def finish(self, count: int) -> None:
        for _ in range(count):
            self.pair.receive(self.terminal, card(self.pair.state.meta.transaction + 1))
            self.pair.receive(self.net, answer_to(self.pair.forwarded(self.net)))
            self.pair.ack(self.terminal)

    def submit(self, node: str) -> Callable[[Any, Any], None]:
        def submit(proposal: Any, subject: Any) -> None:
            assert isinstance(proposal, Journaled) and subject == ("journaled", proposal.upto)
            assert self.numbers()[: proposal.upto] == [*range(1, proposal.upto + 1)], "told before it was durable"
            self.said.append((node, proposal.upto))
            if self.log:
                self.pair.append(node, proposal)
                self.writers[node].resolved()

        return submit

    def numbers(self) -> list[int]:
        store = Store(self.url)
        try:
            return [row.number for row in store.read(pair="pair")]
        finally:
            store.close()

    def work(self, done: Callable[[], Any], nodes: str = "ab") -> None:
        """Let the writers of these nodes run until `done`."""

        async def run() -> None:
            tasks = [asyncio.create_task(self.writers[node].run()) for node in nodes]
            async with asyncio.timeout(WAIT_S):
                while not done():
                    for task in tasks:
                        assert not task.done(), task
                    await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()

        asyncio.run(run())

    def empty(self) -> bool:
        return not self.pair.state.journal


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


def test_the_lead_writes_what_waits_and_says_so_when_it_is_durable(url: str) -> None:
    nodes = Nodes(url, finished=3)
    nodes.work(nodes.empty)
    assert nodes.numbers() == [1, 2, 3] and nodes.said == [("a", 3)]
    assert nodes.writers["a"].health() == {
        "on": True, "waiting": 0, "lag_ms": 0, "waiting_max": 100, "last": 3, "origin": "token", "writer": True, "failure": "",
    }  # fmt: skip
    assert not nodes.writers["b"].health()["writer"]


def test_in_batches_and_in_order(url: str) -> None:
    nodes = Nodes(url, finished=7, batch_rows=3)
    nodes.work(nodes.empty)
    assert nodes.numbers() == [*range(1, 8)] and [upto for _, upto in nodes.said] == [3, 6, 7]


def test_a_lead_that_dies_after_the_commit_leaves_the_next_one_to_write_them_again(url: str) -> None:
    nodes = Nodes(url, finished=3)
    nodes.log = False
    nodes.work(lambda: nodes.said)  # committed; its Journaled never gets into the log
    nodes.pair.die("a")
    nodes.finish(2)
    nodes.log = True
    nodes.work(nodes.empty, "b")
    assert nodes.numbers() == [1, 2, 3, 4, 5] and nodes.said == [("a", 3), ("b", 5)]
    store = Store(url)
    assert [row.node for row in store.read(pair="pair")] == [*"aaabb"]


def test_with_a_file_for_each_node_the_keys_merge_them(tmp_path: Path) -> None:
    nodes = Nodes(f"sqlite:///{tmp_path}/journal-{{node}}.db", finished=3)
    nodes.numbers = lambda: [1, 2, 3, 4, 5]  # type: ignore[method-assign]
    nodes.log = False
    nodes.work(lambda: nodes.said)
    nodes.pair.die("a")
    nodes.finish(2)
    nodes.log = True
    nodes.work(nodes.empty, "b")
    keys = [[row.number for row in Store(f"sqlite:///{tmp_path}/journal-{n}.db").read(pair="pair")] for n in "ab"]
    assert keys == [[1, 2, 3], [1, 2, 3, 4, 5]]


def test_a_dropped_proposal_is_said_again(url: str) -> None:
    nodes = Nodes(url, finished=1)
    nodes.log = False
    nodes.work(lambda: nodes.said)
    nodes.log = True
    nodes.writers["a"].resolved()
    nodes.work(nodes.empty)
    assert nodes.said == [("a", 1), ("a", 1)] and nodes.numbers() == [1]
    assert nodes.metrics["a"].journal_rows._value.get() == 1, "what is durable is not written again"


def test_a_dead_database_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes(f"sqlite:///{tmp_path}/later/journal.db", finished=2)
    failures = nodes.metrics["a"].journal_failures
    with caplog.at_level("INFO"):
        nodes.work(lambda: failures._value.get() >= 2)
        assert nodes.writers["a"].health()["failure"] == "OperationalError"
        assert b"switch_journal_failing 1.0" in nodes.metrics["a"].text()
        nodes.finish(1)
        (tmp_path / "later").mkdir()
        nodes.work(nodes.empty)
    assert nodes.numbers() == [1, 2, 3] and nodes.writers["a"].health()["failure"] == ""
    assert b"switch_journal_failing 0.0" in nodes.metrics["a"].text()
    lines = [record.getMessage() for record in caplog.records if record.name == "switch.journal"]
    assert [line.split()[0] for line in lines] == ["journal.failed", "journal.resumed"], "once each"


def test_a_database_that_does_not_answer_is_told_and_keeps_no_node_that_leaves(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(url, finished=1, timeout_s=0)
    silent = threading.Event()
    write = Store.write

    def hang(self: Store, rows: Any) -> None:
        silent.wait(WAIT_S)
        write(self, rows)

    monkeypatch.setattr(Store, "write", hang)
    nodes.work(lambda: "no answer" in nodes.writers["a"].health()["failure"], "a")  # and the loop closes meanwhile
    silent.set()
    nodes.work(nodes.empty, "a")
    assert nodes.numbers() == [1]


def test_nothing_is_written_while_the_switch_holds(url: str) -> None:
    nodes = Nodes(url, finished=1)
    nodes.mirror.held = True
    writer = nodes.writers["a"]
    assert asyncio.run(writer._batch()) is False and nodes.said == []
    nodes.mirror.held = False
    nodes.work(nodes.empty)


def test_a_node_without_a_database_says_so_when_something_waits_and_a_reload_gives_it_one(url: str) -> None:
    nodes = Nodes("", finished=0)
    assert asyncio.run(nodes.writers["a"]._batch()) is False
    nodes.finish(1)
    nodes.pair.pass_ms(500)
    nodes.work(lambda: nodes.writers["a"].health()["failure"])
    assert nodes.writers["a"].health()["failure"] == "the configuration of this node names no database"
    assert nodes.writers["a"].health()["lag_ms"] == 500
    nodes.url = url
    nodes.config = replace(nodes.config, journal=Journal(url=url))
    nodes.work(nodes.empty)
    assert nodes.numbers() == [1]


def test_a_defect_of_a_write_is_not_taken_for_a_dead_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(url, finished=1)
    monkeypatch.setattr(module.Rows, "row", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(nodes.writers["a"].run(), WAIT_S))
