"""What the tests of a whole switch share: traffic that goes on, connections of our own, what must hold of every run."""

import contextlib
import itertools
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from messages.framing import Framer
from messages.iso8583 import load_dialect
from tools.audit import audit
from tools.inject import Injector, InjectorConfig
from tools.judge import Verdict
from tools.ledger import FILE as LEDGER
from tools.ledger import Posting, Undoing, read_ledger
from tools.pair import Switch
from tools.record import Recorder

WAIT_S = 40.0  # patience of a wait, not an expectation: machines are slow at times
ALL = os.environ.get("SWITCH_TEST_ALL") == "1"  # cases that say so; else a part of them, as they say
RUN_S = 3600.0  # traffic runs until its test is done, or its file, on the slowest machine
DIALECT = load_dialect("iso87-binary")
CARDS = Framer.of("2-byte-be", "tpdu", 4096)
TRANSFERS = Framer.of("8-ascii", "none", 1 << 20)
TPDU = bytes.fromhex("6000031234")
PAN = "4100001200012341"  # approved: the issuer declines what ends in 0
DECLINED_PAN = "4100001200012340"

_numbers = itertools.count(1)
_base = int(time.time() * 5) % 10**5 * 10**6  # RRNs of this run: none that the injector uses (its have 12 digits too)


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Wait until the condition holds, and return what it returned. TimeoutError names what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


# --- traffic


class Traffic:
    """Traffic of the injector in a thread of its own, from `with` to its end, at both nodes or those named."""

    def __init__(
        self, switch: Switch, *, nodes: str = "ab", traffic: str = "mixed", rate: float = 150, name: str = "inject",
        terminals: int = 40, **options: Any,
    ) -> None:  # fmt: skip
        self.folder = switch.directory / name

        def at(ports: dict[str, int]) -> tuple[tuple[str, int], ...]:
            return tuple(("127.0.0.1", ports[node]) for node in nodes)

        options = {"banks": 4, "pipeline": 8, "drain_s": WAIT_S, **options}
        self._config = InjectorConfig(
            record=self.folder, cards=at(switch.ports.terminals), transfers=at(switch.ports.banks),
            traffic=traffic, rate=rate, seconds=RUN_S, terminals=terminals, **options,
        )  # fmt: skip
        self._injector: Injector | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def _run(self) -> None:
        try:
            uvloop.run(self._inject())
        except BaseException as error:
            self._error = error

    async def _inject(self) -> None:
        self._injector = Injector(self._config)
        self.result = await self._injector.run()

    def __enter__(self) -> Self:
        self._thread.start()
        self.more(20)
        return self

    @property
    def answered(self) -> int:
        if self._error is not None:
            raise self._error
        return self._injector._tally.answered if self._injector is not None else 0

    @property
    def approved(self) -> int:
        return self._injector._tally.approved if self._injector is not None else 0

    def more(self, count: int) -> None:
        """Wait until so many more requests have been answered, among them approvals."""
        answered, approved = self.answered + count, self.approved + count // 4
        until(lambda: self.answered >= answered and self.approved >= approved, f"{count} more answers")

    def stop(self) -> None:
        """Send no more, await what is outstanding, close the connections."""
        if self._injector is not None:
            self._injector.stop()
        self._thread.join(2 * WAIT_S)
        assert not self._thread.is_alive(), "the injector does not end"
        if self._error is not None:
            raise self._error

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


# --- connections of our own


class Recording:
    """A record of our own connections in the injector's form, so that the auditor judges them with the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder(folder)
        self.recorder.mark("begun", time.monotonic())

    def close(self) -> None:
        self.recorder.mark("ended", time.monotonic())
        self.recorder.close()


class Wire:
    """One connection to the switch; its user decides when bytes go and come."""

    def __init__(
        self, port: int, framer: Framer = CARDS, *, recording: Recording | None = None, receive_buffer: int = 0
    ) -> None:
        self.framer = framer
        self.header = TPDU if framer.is_tpdu else b""
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(WAIT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect(("127.0.0.1", port))
        self.local = "{}:{}".format(*self.sock.getsockname())  # what the switch calls our address
        self.received = b""  # not yet handed out
        self._record = None
        if recording is not None:
            kind = "tpdu" if framer.is_tpdu else "none"
            dialect = DIALECT.name if framer.is_tpdu else ""
            self._record = recording.recorder.open_session(
                time.monotonic(), self.local, f"127.0.0.1:{port}", framer.name, kind, dialect
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.sock.sendall(data)
        if self._record:
            self._record.on_sent(data, time.monotonic())

    def frame(self, payload: bytes) -> bytes:
        return self.framer.frame(payload, self.header)

    def request(self, payload: bytes) -> None:
        self.send(self.frame(payload))

    def _more(self) -> bool:
        """Receive; False at the end of the stream."""
        data = self.sock.recv(65_536)
        self.note(data)
        return bool(data)

    def note(self, data: bytes) -> None:
        """Bytes were received."""
        if self._record and data:
            self._record.on_received(data, time.monotonic())
        self.received += data

    def answer(self) -> bytes:
        """The payload of the next frame (b"" of a keep-alive). Raises EOFError, or OSError, when the stream ends."""
        while True:
            cuts = self.framer.cut(self.received)
            assert cuts.error is None, cuts.error
            if cuts.frames:
                frame = cuts.frames[0]
                self.received = self.received[frame.end :]
                return frame.payload
            if not self._more():
                raise EOFError("the switch closed the session")

    def fields(self) -> dict[int, str]:
        """The next answer's fields, its MTI as 0."""
        message = DIALECT.decode(self.answer())
        return {0: message.mti, **message.fields}

    def ask(self, payload: bytes) -> dict[int, str]:
        self.request(payload)
        return self.fields()

    def rest(self) -> bytes:
        """Everything up to the end of the stream, which the switch closes."""
        with contextlib.suppress(ConnectionError):
            while self._more():
                pass
        rest, self.received = self.received, b""
        return rest

    def close(self) -> None:
        if self._record:
            self._record.on_end("closed", time.monotonic())
            self._record = None
        self.sock.close()


def card_request(number: int | None = None, *, mti: str = "0200", pan: str = PAN, **more: Any) -> bytes:
    """A withdrawal of its own, by number; `more` are further fields, as de48="...". None leaves one out."""
    number = next(_numbers) if number is None else number
    now = time.gmtime(1_700_000_000 + number)
    values = {
        2: pan, 3: "010000", 4: f"{10_000 + number:012d}", 7: time.strftime("%m%d%H%M%S", now), 11: f"{number:06d}",
        12: time.strftime("%H%M%S", now), 13: time.strftime("%m%d", now), 18: "6011", 22: "051", 25: "00",
        32: "00000123456", 37: rrn(number), 41: "SYSTEM01", 42: "MERCHANT0000001", 49: "978",
    }  # fmt: skip
    values |= {int(name[2:]): value for name, value in more.items()}
    return DIALECT.encode(mti, {field: value for field, value in values.items() if value is not None})


def fresh() -> int:
    """The number of a card request that nobody has sent."""
    return next(_numbers)


def rrn(number: int) -> str:
    return f"9{(_base + number) % 10**11:011d}"


# --- what the switch says


def health(switch: Switch, node: str) -> tuple[int, dict[str, Any]]:
    """Status code and body of /health; (0, {}) while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{switch.ports.http[node]}/health", timeout=WAIT_S) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


def figure(switch: Switch, name: str, nodes: str = "ab") -> float:
    """A figure of /metrics, summed over nodes: `switch_held`, or an event's name for how often it happened."""
    pattern = re.compile(rf'^(?:{re.escape(name)}|switch_events_total{{event="{re.escape(name)}"}}) (\S+)$', re.M)
    return sum(float(match[1]) for node in nodes for match in pattern.finditer(metrics(switch, node)))


def metrics(switch: Switch, node: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{switch.ports.http[node]}/metrics", timeout=WAIT_S) as response:
        text: str = response.read().decode()
        return text


def hashes_agree(switch: Switch, indexes: int = 5) -> None:
    """The nodes' hashes are equal at so many indexes that both have told of from now on."""
    told: dict[str, dict[int, str]] = {"a": {}, "b": {}}

    def common() -> set[int]:
        for node, heard in told.items():
            index, value = switch.ask(node)["hash"]
            heard[index] = value
        return told["a"].keys() & told["b"].keys()

    until(lambda: len(common()) >= indexes, "hashes at the same indexes")
    for index in common():
        assert told["a"][index] == told["b"][index], f"the hashes at index {index} differ"


def log_lines(switch: Switch, event: str, *words: str, nodes: str = "ab") -> list[str]:
    """Lines of the nodes' logs with this event and all these words."""
    lines = [line for node in nodes for line in switch.nodes[node].log.read_text().splitlines()]
    return [line for line in lines if f" {event}" in line and all(word in line for word in words)]


def logged(switch: Switch, event: str, *words: str, nodes: str = "ab") -> str:
    """The first such line, waited for."""
    what = f"{event} {words} in the log of {nodes}"
    lines: list[str] = until(lambda: log_lines(switch, event, *words, nodes=nodes), what)
    return lines[0]


def session(switch: Switch, wire: Wire) -> dict[str, Any] | None:
    """What the switch says of the session at the other end of a wire; None when it has none."""
    rows = switch.ask("a", "sessions")["sessions"]
    return next((row for row in rows if row["remote"] == wire.local), None)


def owned(switch: Switch, node: str, link: str = "terminals", recording: Recording | None = None) -> Wire:
    """A new connection whose session is this node's: either accepts from any listening socket."""
    ports = switch.ports.further.get(link) or getattr(switch.ports, link)
    while True:
        wire = Wire(ports[node], recording=recording)
        row = until(lambda wire=wire: session(switch, wire), "the session to be open")
        if row["owner"].startswith(node):
            return wire
        wire.close()


def settled(switch: Switch, node: str = "a") -> None:
    """Wait until no transaction is open and no advice is owed."""

    def done() -> bool:
        status = switch.ask(node)
        return not status["transactions"] and not status["advices"]

    until(done, "the last transactions and advices")


# --- what the outside world saw


def postings(switch: Switch, number: int) -> tuple[int, int]:
    """Postings at the issuer for the card request of this number: (made, standing)."""
    made, undone = set(), set()
    for entry in read_ledger(switch.directory / "issuer" / LEDGER):
        if isinstance(entry, Posting) and entry.key[0] == rrn(number):
            made.add(entry.number)
        elif isinstance(entry, Undoing):
            undone.add(entry.posting)
    return len(made), len(made - undone)


def heard_by_issuer(switch: Switch, number: int | None = None) -> Counter[str]:
    """How often the issuer was sent which type of message, of one card request or of all."""
    heard: Counter[str] = Counter()
    for path in sorted((switch.directory / "issuer").glob("messages-*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            message = json.loads(line)
            if message["direction"] == "in" and (number is None or message.get("key", [""])[0] == rrn(number)):
                heard[message["type"]] += 1
    return heard


def clean(switch: Switch, *runs: Traffic | Recording, cut: bool = False) -> Verdict:
    """Stop the pair in order and let the auditor judge the records: no finding of any kind, no defect in the logs.

    `cut`: the test has made sessions end, which is no finding then.
    """
    folders = []
    for run in runs:
        (run.close if isinstance(run, Recording) else run.stop)()
        folders.append(run.folder)
    codes = switch.stop_nodes()
    assert not any(codes.values()), f"exit codes {codes}"
    assert switch.defects() == []
    verdict = audit(folders, switch.directory / "issuer", switch.directory / "bank")
    found = (verdict.lost, verdict.duplicated, verdict.ledger_mismatch, verdict.unexpected, verdict.remainder)
    assert not any(found) if cut else verdict.clean, verdict.findings
    return verdict
