"""The parsers of outside bytes as a table of fuzz targets. tools/fuzz runs them; test_fuzz.py runs all for a short time.

A target takes any bytes and returns whether they were accepted. What it raises is a defect: each checks for itself that
a refusal is an exception that the parser's callers expect (for messages, by oracles.py: it names its place and tells nothing
of the message), and what must hold of accepted bytes, above all that they survive being written and read again.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import engines
import msgspec
import oracles
from etcd3 import etcdrpc
from google.protobuf.message import DecodeError
from iso8583_samples import PAN

from messages.framing import FRAMINGS, Framer
from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.dialect import Dialect
from messages.iso8583.jpos import read_packager
from messages.iso8583.loader import load_dialect, shipped_dialects
from messages.iso8583.options import Iso8583Options
from messages.iso20022 import Iso20022Codec, Iso20022Options
from messages.iso20022.explained import load
from messages.iso20022.schemas import load_schemas
from messages.message import MessageError
from switch import config
from switch.core import snapshot
from switch.core.proposals import EntryError, Park, decode_entry, encode_entry
from switch.journal.rows import Row
from switch.journal.store import Store, StoreError
from switch.mirror import fitness, watch
from switch.mirror.client import Client
from switch.mirror.entry import Entry
from switch.mirror.errors import LogBroken, MirrorError, Unavailable, Unsealable
from switch.mirror.keys import Keys, decode_fence
from switch.mirror.lease import Presence
from switch.mirror.replica import Replica
from switch.mirror.sealing import KEY_BYTES, KeyFileError, Sealer, read_key_file
from switch.mirror.snapshot import Snapshots
from switch.ops.control import Control
from switch.sessions import handover_messages

FRAME_MAX = 300  # so that longer ones are met
FRAMERS = [Framer.of(name, header, FRAME_MAX) for name in FRAMINGS for header in ("none", "tpdu", "fixed:3")]
KEYS = Keys("p")
SEALED_AT = b"/switch/p/log/a/0000000001/0000000000000001"
KEY_FILE = "k1 " + "5a" * 32 + "\n"
SEALED = b"a proposal"  # the plain text of every seed of `sealed`
JOURNAL_PAIR = "p"
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files are quickest
CONTROL_LINE_MAX = 3000  # so that longer ones are met


class Target(msgspec.Struct, frozen=True):
    """One parser: whether it accepts the bytes. Whatever it raises is a defect."""

    name: str
    run: Callable[[bytes], bool]
    dictionary: str = ""  # a file of tokens beside this one


# --- messages/


def framing(data: bytes) -> bool:
    """The first byte chooses framing and header, the second where the stream is cut in two."""
    if len(data) < 2:
        return False
    return oracles.framing(FRAMERS[data[0] % len(FRAMERS)], data[2:], data[1])


@functools.cache
def codec(dialect: str) -> Iso8583Codec:
    return Iso8583Codec(Iso8583Options(dialect=dialect))


def iso8583(dialect: str) -> Callable[[bytes], bool]:
    alike = [name for name in shipped_dialects() if codec(name).dialect.version == codec(dialect).dialect.version]
    other = codec(alike[alike.index(dialect) - 1])
    return lambda data: oracles.iso8583_payload(codec(dialect), data, other)


@functools.cache
def transfers() -> Iso20022Codec:
    """With errors told exactly, as in a process that has seen some."""
    for schema in load_schemas().all():
        load(schema)
    return Iso20022Codec(Iso20022Options())


def iso20022(data: bytes) -> bool:
    return oracles.iso20022_payload(transfers(), data)


def jpos(data: bytes) -> bool:
    """A dialect that was accepted must bear any message, too: here its own text."""
    try:
        dialect = Dialect("fuzz", read_packager(data))
    except ValueError:
        return False
    _decodes(dialect, data)
    return True


def dialect_file(data: bytes) -> bool:
    with _file(data) as path:
        try:
            dialect = load_dialect.__wrapped__(str(path))
        except ValueError:
            return False
    _decodes(dialect, data)
    return True


def _decodes(dialect: Dialect, payload: bytes) -> None:
    head = dialect.encode_mti("0200")
    for data in (payload, head + payload, head + bytes((0x70, 0x3C)) * 4 + payload, head + b"703C" * 4 + payload):
        try:
            message = dialect.decode(data)
        except MessageError as error:
            oracles.refused(error, data)
            continue
        again = dialect.decode(dialect.assemble(message.mti, message.raw))
        assert (again.mti, again.fields) == (message.mti, message.fields)


# --- switch/


def entry(data: bytes) -> bool:
    try:
        proposals = decode_entry(data)
    except EntryError as error:
        oracles.silent(f"{error} {error!r}", data)
        return False
    assert decode_entry(encode_entry(proposals)) == proposals
    return True


def state(data: bytes) -> bool:
    """One chunk of a snapshot, at the index of the seeds."""
    try:
        loaded = snapshot.load(1, [data], {})
    except snapshot.SnapshotError:
        return False
    view = snapshot.View(loaded)
    assert snapshot.load(1, list(view.chunks()), {}).hash() == loaded.hash()
    return True


def handover(data: bytes) -> bool:
    try:
        message = handover_messages.decode(data)
    except ValueError:
        return False
    assert handover_messages.decode(handover_messages.encode(message)) == message
    return True


def keys(data: bytes) -> bool:
    """The value of a fence, and what is behind the prefix of a key of the log."""
    accepted = False
    with contextlib.suppress(LogBroken):
        assert decode_fence(data).encode() == data, "a fence that no append would compare equal"
        accepted = True
    with contextlib.suppress(LogBroken):
        key = KEYS.log + data
        assert KEYS.entry(KEYS.position(key)) == key, "a key that no entry has"
        accepted = True
    return accepted


@functools.cache
def sealer() -> Sealer:
    with _file(KEY_FILE.encode()) as path:
        return Sealer(path)


def sealed(data: bytes) -> bool:
    """Only what was sealed can be opened: nobody guesses a tag."""
    try:
        plain = sealer().open(SEALED_AT, data)
    except Unsealable:
        return False
    assert plain == SEALED, "a value that nobody sealed was opened"
    return True


def configuration(data: bytes) -> bool:
    with _file(data) as path:
        try:
            found = config.load(path)
        except config.ConfigError as error:
            assert str(path) in str(error)
            return False
    again = type(found.rules).decode(found.rules.encode())
    assert again == found.rules
    if found.journal.url:  # which the writer reads when it begins; nothing connects
        with contextlib.suppress(StoreError):
            store = Store(found.journal.url_of("a"), "secret", 1)
            assert "secret" not in store.name
            store.close()
    return True


def key_file(data: bytes) -> bool:
    """What is told of an unfit one holds no key: nothing that is longer than an id."""
    with _file(data) as path:
        try:
            found = read_key_file(path)
        except KeyFileError as error:
            told = re.findall("[0-9A-Za-z+/=]{33,}", str(error))
            assert not [word for word in told if word.encode() in data], "a key is told"
            return False
    assert found and all(len(key) == KEY_BYTES for key in found.values())
    return True


# --- what etcd answers


class Clear:
    """A sealer that seals nothing, so that mutations reach what is behind the seal."""

    def open(self, path: bytes, value: bytes) -> bytes:
        return value


class Answers:
    """A client that has these answers, each with its size before it, and then none. What gRPC cannot read is no answer."""

    check = Client.check
    endpoint = None
    settings = SimpleNamespace(lease_ttl_s=5)

    def __init__(self, data: bytes, kind: Any) -> None:
        self.cluster_id = self.revision = self.head = 0
        self.left: list[Any] = []
        while len(data) > 2:
            end = 2 + int.from_bytes(data[:2], "big")
            self.left.append(kind.FromString(data[2:end]))
            data = data[end:]

    async def call(self, pick: Any, request: Any, patience_s: float | None = None) -> Any:
        if not self.left:
            raise Unavailable("no more")
        response = self.left.pop(0)
        if request.success[0].request_range.key == KEYS.head:
            head = response.responses[0].response_range.kvs if response.responses else []
            self.head = head[0].version if head else 0
        self.check(response.header, self.revision)
        return response


class Follower:
    """Decodes what the mirror hands over, entries in order and none twice."""

    def __init__(self) -> None:
        self.index = 0

    def load(self, index: int, chunks: list[bytes], segments: dict[str, bytes]) -> None:
        snapshot.load(index, chunks, segments)
        self.index = index

    def apply(self, entry: Entry) -> None:
        self.index += 1
        assert entry.index == self.index, "an entry was left out, or came twice"
        decode_entry(entry.body)


def _replica(client: Any) -> Replica:
    appender: Any = SimpleNamespace(after_apply=lambda: None)
    clear: Any = Clear()
    follower: Any = Follower()
    return Replica(client, KEYS, clear, follower, "a", appender, Snapshots(client, KEYS, clear))


REFUSALS = (DecodeError, MirrorError, Unavailable, snapshot.SnapshotError, EntryError)


def etcd_log(data: bytes) -> bool:
    """The answers by which a node reads snapshot and log: it ends at the head, or says why not."""
    try:
        client: Any = Answers(data, etcdrpc.TxnResponse)
        replica = _replica(client)
        _run(replica.catch_up())
    except REFUSALS:
        return False
    assert replica.index == client.head, "it stands elsewhere than at the head"
    return True


def etcd_watch(data: bytes) -> bool:
    """Answers of a watch, to a node that has read nothing yet: entries in order and no other."""
    try:
        client: Any = Answers(data, etcdrpc.WatchResponse)
        replica = _replica(client)
        watcher = watch.Watcher(client, KEYS, replica)
        for response in client.left:
            _run(watcher._receive(response))
    except (*REFUSALS, watch._Gap, watch._Broken):
        return False
    return replica.index > 0


def etcd_nodes(data: bytes) -> bool:
    try:
        client: Any = Answers(data, etcdrpc.TxnResponse)
        present = _run(Presence(client, KEYS, "a").nodes())
    except REFUSALS:
        return False
    assert all(type(facts) is dict for facts in present.values())
    return bool(present)


def etcd_fitness(data: bytes) -> bool:
    """Version, /debug/vars and /metrics of a member: whatever it says, at most warnings come of it."""
    version, _, rest = data.partition(b"\n")
    variables, _, metrics = rest.partition(b"\n")
    told = fitness.version_warning(version.decode(errors="replace"))
    assert told is None or "\n" not in told
    try:
        warnings = fitness.settings_warnings(version.decode(errors="replace"), variables, metrics)
    except ValueError:
        return False
    return not warnings


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """What waits for nothing but its turn, to its end."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            return end.value


# --- operators' side


class Failures(logging.Handler):
    """What the log tells of commands that ended in an exception nobody had in mind."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


@functools.cache
def operated() -> tuple[Control, Failures]:
    """A node with a session in use and a parked advice, as far as commands look at it."""
    pair = engines.Pair()
    terminal, network = pair.accept(), pair.connect()
    pair.receive(terminal, engines.card())
    pair.receive(network, engines.answer_to(pair.forwarded(network)))
    pair.receive(terminal, engines.card(2, "0420"))
    for number in pair.state.advices:
        pair.append("a", Park(number, "unanswered"))
    assert any(advice.parked for advice in pair.state.advices.values())

    def reload() -> None:
        raise config.ConfigError("switch.toml: no such file")

    parts = {"health": dict, "rotate": lambda index: True, "text": lambda: b"switch_up 1\n"}
    part = SimpleNamespace(held=False, synced=True, takeovers=[], handover=SimpleNamespace(up=True), **parts)
    node: Any = SimpleNamespace(
        node="a", engine=pair.engines["a"], config=SimpleNamespace(pair=config.Pair(name="p", key_file="keys")),
        mirror=part, succession=part, keys=part, journal=part, metrics=part, settle=lambda word: None, reload=reload,
    )  # fmt: skip
    failures = Failures()
    logging.getLogger("switch.ops").addHandler(failures)
    return Control(node), failures


class Written(bytearray):
    """What the socket takes."""

    write = bytearray.extend

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


@functools.cache
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def control(data: bytes) -> bool:
    """Lines of the control socket: each has an answer of one line, without card data, and none is a defect."""
    serving, failures = operated()
    reader = asyncio.StreamReader(CONTROL_LINE_MAX, loop())
    reader.feed_data(data)
    reader.feed_eof()
    written: Any = Written()
    failures.told.clear()
    _run(serving._serve(reader, written))
    assert not failures.told, f"a command failed: {failures.told}"
    assert PAN.encode() not in written
    answers = [json.loads(line) for line in bytes(written).splitlines()]
    assert all(answer["ok"] is True or (answer["ok"] is False and answer["error"]) for answer in answers)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if all(len(line) < CONTROL_LINE_MAX for line in lines):
        assert len(answers) == len(lines), "a line without an answer"
    return any(answer["ok"] for answer in answers)


def journal(data: bytes) -> bool:
    """A file that is to be the journal's database: rows of the journal's types come out, or StoreError."""
    with tempfile.TemporaryDirectory(prefix="switch-fuzz-", dir=MEMORY) as directory:
        path = Path(directory) / "journal.db"
        path.write_bytes(data)
        store = Store(f"sqlite:///{path}", timeout_s=1)
        try:
            rows = list(store.read(pair=JOURNAL_PAIR))
        except StoreError as error:
            oracles.silent(str(error), data, *Row.__struct_fields__)
            return False
        finally:
            store.close()
    for row in rows:
        assert msgspec.convert(msgspec.structs.asdict(row), Row) == row, "not the types of a row"
    return bool(rows)


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[Path]:
    """The bytes as a file that only its owner can read, in memory, for parsers that want one."""
    fd = os.memfd_create("fuzz")
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, data)
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


TARGETS = {
    target.name: target
    for target in (
        Target("framing", framing),
        *(Target(name, iso8583(name)) for name in shipped_dialects()),
        Target("bertlv", oracles.bertlv),
        Target("jpos", jpos, "jpos.dict"),
        Target("dialect", dialect_file, "toml.dict"),
        Target("iso20022", iso20022, "iso20022.dict"),
        Target("entry", entry),
        Target("snapshot", state),
        Target("handover", handover),
        Target("keys", keys),
        Target("sealed", sealed),
        Target("config", configuration, "toml.dict"),
        Target("key-file", key_file),
        Target("etcd-log", etcd_log),
        Target("etcd-watch", etcd_watch),
        Target("etcd-nodes", etcd_nodes),
        Target("etcd-fitness", etcd_fitness),
        Target("control", control, "control.dict"),
        Target("journal", journal),
    )
}
