"""The parsers of outside bytes as a table of fuzz targets. tools/fuzz runs them; test_fuzz.py runs all for a short time.

A target takes any bytes and returns whether they were accepted. What it raises is a defect: each checks for itself that
a refusal is an exception that the parser's callers expect (for messages, by oracles.py: it names its place and tells nothing
of the message), and what must hold of accepted bytes, above all that they survive being written and read again.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import oracles

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
from switch.core.proposals import EntryError, decode_entry, encode_entry
from switch.mirror.errors import LogBroken, Unsealable
from switch.mirror.keys import Keys, decode_fence
from switch.mirror.sealing import Sealer
from switch.sessions import handover_messages

FRAME_MAX = 300  # so that longer ones are met
FRAMERS = [Framer.of(name, header, FRAME_MAX) for name in FRAMINGS for header in ("none", "tpdu", "fixed:3")]
KEYS = Keys("p")
SEALED_AT = b"/switch/p/log/a/0000000001/0000000000000001"
KEY_FILE = "k1 " + "5a" * 32 + "\n"
SEALED = b"a proposal"  # the plain text of every seed of `sealed`


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
        fence = decode_fence(data)
        assert decode_fence(fence.encode()) == fence
        accepted = True
    with contextlib.suppress(LogBroken):
        position = KEYS.position(KEYS.log + data)
        assert KEYS.position(KEYS.entry(position)) == position
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
    return True


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
    )
}
