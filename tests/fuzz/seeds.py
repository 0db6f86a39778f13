"""Writes the seeds of the fuzz targets anew: `PYTHONPATH=.:tests/unit python tests/fuzz/seeds.py`.

They are made of the samples of the unit tests, and kept in the repository, so that what a run starts from is known, and
inputs that once broke a promise stand beside them. Nothing random goes in: the same files come out each time.
"""

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import engines
import msgspec
import targets
import test_iso8583_jpos as jpos
import test_iso20022_codec as transfers
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from etcd3 import etcdrpc
from iso8583_samples import APPROVALS, purchase_mti, sample

from messages.framing import Framer
from messages.iso8583.bertlv import build
from messages.iso8583.loader import SHIPPED, load_dialect, shipped_dialects
from messages.message import Decision, NetworkFunction, Outcome, Summary, Trait, Verdict
from switch.core import proposals as p
from switch.core import snapshot
from switch.core.originals import Standing
from switch.core.records import Waiter
from switch.core.sealed import Sealed
from switch.journal.rows import Row
from switch.mirror.keys import Fence, Position
from switch.mirror.snapshot import Pointer
from switch.sessions import handover_messages as h

HERE = Path(__file__).parent
Seeds = dict[str, bytes]


def framing() -> Seeds:
    """Two frames, a keep-alive and the start of a third, of each framing under one header; and one that is too long."""
    found = {}
    for place, framer in enumerate(targets.FRAMERS):
        if place % 3 == place // 3 % 3:
            stream = framer.frame(b"0800") + framer.keepalive + framer.frame(b"x" * 40) + framer.frame(b"cut")[:-1]
            found[framer.name] = bytes((place, 20)) + stream
    found["long"] = bytes((0, 3)) + Framer.of(targets.FRAMERS[0].name).frame(bytes(targets.FRAME_MAX + 1))
    return found


def iso8583(name: str) -> Seeds:
    dialect = load_dialect(name)
    version, mti = dialect.version, purchase_mti(dialect.version)
    fields = sample(version)
    code = APPROVALS[version]
    function = {70: "301"} if version == "1987" else {24: "831"}
    chip = build([("91", bytes(10)), ("71", build([("86", b"\x84\x24\0\0")]))]).hex().upper()
    echo = {7: fields[7], 11: fields[11], **function}
    track = {number: fields[number] for number in (3, 4, 7, 11, 35, 41, 42)}
    short = {number: fields[number] for number in (2, 3, 4, 7, 11, 32, 37, 41, 42)}
    return {
        "request": dialect.encode(mti, fields),
        "track-only": dialect.encode(mti[:3] + "1", track),
        "answer": dialect.encode(mti[0] + "210", {**short, 39: code, 55: chip}),
        "advice": dialect.encode(mti[0] + "420", {**short, 90 if version == "1987" else 56: ORIGINAL[version]}),
        "echo": dialect.encode(mti[0] + "800", echo),
        "second-bitmap": dialect.encode(mti, {**short, 102: "28", 128: "0123456789ABCDEF"}),
    }


ORIGINAL = {
    "1987": "0200" + "000077" + "0301100000" + "0" * 22,
    "1993": "1200" + "000077" + "261122123456" + "06123456",
    "2003": "2200" + "000000000077" + "20261122123456" + "06123456",
}


def bertlv() -> Seeds:
    chip = bytes.fromhex(sample("1987")[55])
    nested = build(
        [("77", build([("5A", b"secret"), ("82", b"xx"), ("70", build([("57", b"track"), ("9F26", b"c")]))]))]
    )
    return {
        "chip": chip,
        "nested": nested,
        "long": build([("84", bytes(300)), ("DF8101", b"\xcc" * 130)]),
        "padded": bytes.fromhex("0000 910A01020304050607083030 00 7106860484240000 00"),
    }


def packagers() -> Seeds:
    fields = "".join(jpos.field(40 + place, each[0], name) for place, (name, each) in enumerate(jpos.WIRE.items()))
    nested = jpos.NESTED.format(attributes="", last="IF_CHAR")
    small = jpos.field(2, 19, "IFB_LLNUM", 'pad="true"') + jpos.field(12, 12, "IFB_NUMERIC")
    return {
        "classes": jpos.packager(fields).encode(),
        "nested": jpos.packager(nested, doctype="").encode(),
        "bcd": jpos.packager(small, "bcd", "").encode(),
        "ebcdic": jpos.packager(jpos.field(3, 6, "IFE_NUMERIC"), "ebcdic", "").encode(),
        "entity": jpos.packager("", doctype=jpos.ENTITY).encode(),
    }


def dialects() -> Seeds:
    shipped = {path.stem: path.read_bytes() for path in SHIPPED.glob("iso*.toml")}
    changed = b"""base = "iso87-ascii"
bitmap = "binary"
pad = "right F"
[fields]
35 = { encoding = "bcd", length_unit = "bytes" }
60 = { format = "ans18", subfields = [["batch", "n6"], ["terminal", "ans12"]] }
62 = { format = "ansb...999", sensitive = true, length_encoding = "bcd" }
28 = { format = "x+n7" }
"""
    whole = b"""version = "1987"
mti = "ascii"
bitmap = "binary"
length = "binary"
types = { n = "bcd", text = "cp500", b = "binary" }
fields = { 2 = { format = "n..19" }, 11 = { format = "n6" }, 52 = { format = "b8", encoding = "hex" } }
"""
    return {**shipped, "changed": changed, "whole": whole}


def iso20022() -> Seeds:
    identification = "<ClrSysMmbId><ClrSysId><Cd>USABA</Cd></ClrSysId><MmbId>021040078</MmbId></ClrSysMmbId>"
    clearing = f"<CdtrAgt><FinInstnId>{identification}</FinInstnId></CdtrAgt>"
    return {
        "request": transfers.pacs_008().encode(),
        "file": transfers.pacs_008(transfers.transaction("E-1"), transfers.transaction("E-2", "0.70")).encode(),
        "wrapped": transfers.with_header(transfers.pacs_008(), "<PssblDplct>true</PssblDplct>").encode(),
        "member": transfers.pacs_008(
            transfers.transaction(amount="100", currency="JPY", creditor_agent=clearing)
        ).encode(),
        "report": transfers.pacs_002("ACSC").encode(),
        "refused": transfers.pacs_002("RJCT", reason="AC04").encode(),
        "far-year": transfers.pacs_008().replace("<CreDtTm>2", f"<CreDtTm>{'2' * 50}").encode(),
        "relative": transfers.with_header(transfers.pacs_008()).replace("<FIId>", '<FIId xmlns:r="x">').encode(),
        "invalid": transfers.pacs_008(count=7).replace("<ChrgBr>SLEV</ChrgBr>", "").encode(),
    }


def entries() -> Seeds:
    outcome, advice = Outcome(Decision.APPROVED, "00", b"record"), p.OwnAdvice(b"advice", b"m", 8, b"reference")
    summary = Summary("purchase", int(Trait.MONEY | Trait.TIMEOUT_REVERSAL), 1000, "978", b"identity", b"refers")
    request = p.Request(
        "pos.1", 0, 9, b"key", b"digest", b"h", b"original", summary, "cards", "net", "net.1", 7, b"m", b"reference", "0301",
        b"f", 500,
    )  # fmt: skip
    stored = p.Store(
        "pos.1", 9, 18, b"key", b"digest", b"original", summary, outcome, b"f", Standing.APPROVED, b"reference", outcome,
        "net", b"payload",
        b"m", 7, b"reference",
    )  # fmt: skip
    waiter = Waiter("pos.2", b"", b"original")
    payments = [
        request, stored, p.Attach("pos.2", 0, 9, 1, waiter, None, b""),
        p.Answer("net.1", 0, 9, 1, b"m", outcome, (("pos.1", b"f"),), False, True, advice),
        p.Refuse("pos.1", 9, 18, b"", b"d", b"original", summary, outcome, b"f", "DE41 missing"),
        p.Reply("pos.1", 18, 27, b"key", outcome, b"f"), p.Timeout(1, outcome, (), advice), p.Undo(1, outcome, (), p.NOTHING),
        p.Decide(1, outcome, (), advice, "stand-in", b"account", 20_000),
        p.Resend(1, "cards", "net", "net.1", 8, b"m", b"reference", "", Sealed(bytes(35))), p.Redeliver(1, "pos.2", b"f"),
    ]  # fmt: skip
    advices = [
        p.AdviceSend(1, 0, "net.1", b"f"), p.AdviceAnswer("net.1", 0, 9, 1, b"m", Verdict.NOT_FOUND, "25"),
        p.Park(1, "unanswered"), p.Settle(1, True),
    ]  # fmt: skip
    pair = [
        p.Join("a", 1, "token", "boot", 1, 2, "cluster"), p.Live(), p.Activate(3), p.Leaving(), p.Leave(),
        p.Heir("b1", ("pos.1",), "mark"), p.Move(("pos.1",), "b2"), p.Tick(1, 250, 9, 8, "0123456789abcdef"),
        p.Configure(engines.rules().encode()), p.Snapshot(5), p.Forget(1),
    ]  # fmt: skip
    sessions = [
        p.Open("pos.1", "pos", -1, "cookie", "r:1", "l:1", ""), p.Connected("net.1", "l:1"), p.End("pos.1", -1, "closed"),
        p.Acked((("pos.1", 9), ("net.1", 1 << 40))), p.Absorb("pos.1", 0, 2, "", b"\0\0"), p.Piece("pos.1", 2, 5, b"abc"),
        p.Piece("pos.1", 5, 8, Sealed(bytes(35))),
        p.NetworkRequest("net.1", 0, 9, NetworkFunction.CUTOVER, b"f", "0302"), p.NetworkAnswer("net.1", 0, 9, b"m", True),
    ]  # fmt: skip
    groups = {"payments": payments, "advices": advices, "pair": pair, "sessions": sessions, "none": []}
    return {name: p.encode_entry(group) for name, group in groups.items()}


def snapshots() -> Seeds:
    """States at index 1, which is what the target loads."""
    pair = engines.Pair()
    session, network = pair.accept(), pair.connect()
    empty = _snapshot(engines.Pair().state)
    pair.receive(session, engines.card())
    waiting = _snapshot(pair.state)
    pair.receive(network, engines.answer_to(pair.forwarded(network)))
    pair.ack(session)
    return {"empty": empty, "waiting": waiting, "finished": _snapshot(pair.state)}


def _snapshot(state: object, index: int = 1) -> bytes:
    before, state.index = state.index, index  # type: ignore[attr-defined]
    (chunk,) = snapshot.View(state).chunks()  # type: ignore[arg-type]
    state.index = before  # type: ignore[attr-defined]
    return chunk


DEEP = b"\x92\xa4beat" + b"\x91" * 2000


def handover() -> Seeds:
    opens = (p.Open("pos.1", "pos", -1, "cookie", "r:1", "l:1", "b1"), p.Open("net.2", "net", 0, "c", "r:2", "", ""))
    said = {
        "hello": h.Hello(h.VERSION, "p", "a1", "token"), "sockets": h.Sockets(opens), "gone": h.Gone(("pos.1", "pos.2")),
        "listeners": h.Listeners(("pos",)), "synced": h.Synced(), "beat": h.Beat(),
    }  # fmt: skip
    broken = {"no-utf-8": h.encode(h.Gone(("s",))).replace(b"\xa1s", b"\xa1\xff"), "deep": DEEP}
    return {name: h.encode(message) for name, message in said.items()} | broken


def sealed() -> Seeds:
    name, key = targets.KEY_FILE.split()
    nonce = bytes(range(12))  # fixed, so that the file is the same each time; it seals nothing that matters
    value = AESGCM(bytes.fromhex(key)).encrypt(nonce, targets.SEALED, targets.SEALED_AT)
    whole = b"\x01" + bytes((len(name),)) + name.encode() + nonce + value
    return {"whole": whole, "cut": whole[:-1], "other-key": whole.replace(b"k1", b"k9"), "no-nonce": whole[:5]}


CONFIG = """[pair]
name = "p"
key_file = "keys"
[etcd]
endpoints = ["127.0.0.1:2379"]
"""
JOURNAL = """[journal]
url = "%s"
[limits]
journal_waiting_max = 100
"""
LINKS = """[[link]]
name = "terminals"
listen = { a = "0.0.0.0:7001", b = "0.0.0.0:7002" }
framing = "2-byte-be"
header = "tpdu"
header_value = "6000010002"
[link.iso8583]
dialect = "iso87-binary"
[[link]]
name = "issuer"
connect = ["192.0.2.10:9000"]
framing = "4-ascii"
timeout_ms = 15_000
[link.iso8583]
match = ["7", "11", "37", "41"]
response_codes = { timeout = "68" }
[[link]]
name = "banks"
listen = { a = "192.0.2.1:1" }
framing = "8-ascii"
[link.iso20022]
timeout_profile = "pending"
[[route]]
name = "cards"
source = ["terminals"]
types = ["01", "02"]
bins = ["41000012"]
targets = ["issuer"]
"""


# --- what etcd answers: each answer with its size before it, as targets.Answers reads them

FENCES = {"a": Fence(2, 3, "0123456789abcdef"), "b": Fence(1, 1, "dead")}


def _sized(*answers: Any) -> bytes:
    encoded = [answer.SerializeToString(deterministic=True) for answer in answers]
    return b"".join(len(each).to_bytes(2, "big") + each for each in encoded)


def _header(revision: int) -> Any:
    return etcdrpc.ResponseHeader(cluster_id=7, member_id=1, revision=revision)


def _txn(*found: list[dict[str, Any]], revision: int = 20) -> Any:
    """An answer to a transaction: what each of its reads has found."""
    response = etcdrpc.TxnResponse(header=_header(revision), succeeded=True)
    for kvs in found:
        response.responses.add().response_range.SetInParent()
        for kv in kvs:
            response.responses[-1].response_range.kvs.add(**kv)
    return response


def _kv(key: bytes, value: bytes = b"", revision: int = 20, version: int = 1) -> dict[str, Any]:
    return {"key": key, "value": value, "mod_revision": revision, "version": version}


def _entry(number: int, node: str = "a", incarnation: int = 2, sequence: int = 1) -> dict[str, Any]:
    key = targets.KEYS.entry(Position(node, incarnation, sequence))
    return _kv(key, p.encode_entry([p.Live(), p.Tick(1, 250, 9, 8, "0123456789abcdef")]), 10 + number)


def _listing(head: int, entries: list[dict[str, Any]], pointer: bytes = b"", **fences: bytes) -> Any:
    keys, listed = targets.KEYS, [{**each, "value": b""} for each in entries]
    held = {node: fence.encode() for node, fence in FENCES.items()} | fences
    return _txn(
        [_kv(keys.head, b"", 10 + head, head)] if head else [], listed,
        [_kv(keys.pointer, pointer)] if pointer else [],
        *([_kv(keys.fence(node), value)] if value else [] for node, value in held.items()),
    )  # fmt: skip


def etcd_log() -> Seeds:
    entries = [_entry(1), _entry(2, "b", 1), _entry(3, sequence=2), _entry(4, sequence=3)]
    page = _txn(*([each] for each in entries))
    empty = _snapshot(engines.Pair().state)
    pointer, none = msgspec.msgpack.encode(Pointer(1, 1, ())), _listing(0, [], a=b"", b=b"")
    beyond, further = _snapshot(engines.Pair().state, 9), msgspec.msgpack.encode(Pointer(9, 1, ()))
    chunk = _txn([_kv(targets.KEYS.chunk(1, 0), empty)])
    rest = _txn(*([each] for each in entries[1:]))
    segment = msgspec.msgpack.encode(Pointer(1, 0, ("o1",)))
    return {
        "nothing": _sized(none),
        "whole": _sized(_listing(4, entries), page),
        "snapshot": _sized(_listing(4, entries[1:], pointer), chunk, rest),
        "segment": _sized(_listing(4, entries[1:], segment), _txn([_kv(targets.KEYS.segment("o1"), b"\x90")]), rest),
        "beyond": _sized(_listing(4, entries, further), _txn([_kv(targets.KEYS.chunk(9, 0), beyond)])),
        "no-pointer": _sized(_listing(4, entries[1:], b"\xc1"), rest),
        "many-chunks": _sized(_listing(4, entries[1:], msgspec.msgpack.encode((1, 1 << 62, ()))), rest),
        "slash": _sized(_listing(4, entries[1:], msgspec.msgpack.encode((1, 0, ("a/b",)))), rest),
        "truncated": _sized(_listing(4, entries), _txn([], [], [], []), _listing(4, entries), page),
        "no-fence": _sized(_listing(4, entries, a=b"", b=b"")),
        "no-fence-of-a-pair": _sized(_listing(4, entries, a=b"+2 3 token")),
        "few-reads": _sized(_txn([_kv(targets.KEYS.head, b"", 14, 4)])),
        "key-of-nobody": _sized(_listing(1, [_kv(targets.KEYS.log + b"a/2/1", b"", 11)]), _txn([_entry(1)])),
    }


def _events(*kvs: dict[str, Any], **more: Any) -> Any:
    response = etcdrpc.WatchResponse(header=_header(20), **more)
    for kv in kvs:
        response.events.add().kv.SetInParent()
        response.events[-1].kv.MergeFrom(type(response.events[-1].kv)(**kv))
    return response


def etcd_watch() -> Seeds:
    head = targets.KEYS.head
    two = [_entry(1), _kv(head, b"", 11, 1), _entry(2, "b", 1), _kv(head, b"", 12, 2)]
    return {
        "created": _sized(_events(created=True), _events(*two)),
        "apart": _sized(_events(two[0]), _events(two[1])),
        "gap": _sized(_events(two[0], _kv(head, b"", 11, 7))),
        "compacted": _sized(_events(compact_revision=9)),
        "cancelled": _sized(_events(canceled=True, cancel_reason="no leader")),
        "back": _sized(_events(*two[:2], _entry(2, "b", 1), _kv(head, b"", 12, 2)), _events(*two)),
        "life-of-nobody": _sized(_events(_entry(1, incarnation=0), _kv(head, b"", 11, 1))),
        "stranger": _sized(_events(_kv(head + b"-", b"", 11), _kv(head, b"", 11, 1))),
    }


def etcd_nodes() -> Seeds:
    facts = json.dumps({"boot_id": "b", "pid": 7, "start_ticks": 99, "incarnation": 1, "token": "t"}).encode()
    nodes = targets.KEYS.nodes
    return {
        "both": _sized(_txn([_kv(nodes + b"a", facts), _kv(nodes + b"b", facts)])),
        "none": _sized(_txn([])),
        "no-json": _sized(_txn([_kv(nodes + b"a", b"{")])),
        "no-object": _sized(_txn([_kv(nodes + b"a", b"[1]")])),
        "no-utf-8": _sized(_txn([_kv(nodes + b"\xff", b'{"pid":"\xff"}')])),
        "deep": _sized(_txn([_kv(nodes + b"a", b'{"a":' + b"[" * 3000)])),
        "no-read": _sized(_txn()),
    }


def etcd_fitness() -> Seeds:
    started = b'{"cmdline":["etcd","--snapshot-count","5000"],"memstats":{}}'
    quota = b"# TYPE etcd_server_quota_backend_bytes gauge\netcd_server_quota_backend_bytes %s\n"
    return {
        "fit": b"3.5.28\n" + started + b"\n" + quota % b"2.147483648e+09",
        "unfit": b"3.4.1\n" + started.replace(b"--snapshot-count", b"x") + b"\n" + quota % b"1.048576e+06",
        "no-version": b"main\n" + started + b"\n",
        "long-numbers": b"3.5." + b"1" * 1300 + b"\n" + started.replace(b"5000", b"5" * 1300) + b"\n" + quota % b"1e999",
        "no-number": b"3.6.9\n" + started + b"\n" + quota % b"nan",
        "no-json": b"3.6.9\n<html>\n<html>",
        "no-utf-8": b"3.6.9\n" + started.replace(b"etcd", b"\xff") + b"\n",
        "deep": b"3.6.9\n" + b'{"memstats":' + b"[" * 3000,
    }


# --- operators' side


def control() -> Seeds:
    asked = [{"command": name} for name in ("status", "sessions", "links", "totals", "advices", "metrics", "rotate-key")]
    lines = {each["command"]: json.dumps(each).encode() + b"\n" for each in asked}
    settle = {"command": "settle", "id": 1, "retry": True}
    return {
        **lines,
        "settle": json.dumps(settle).encode() + b"\n" + json.dumps({**settle, "id": 99, "retry": False}).encode(),
        "settle-nothing": b'{"command":"settle"}\n{"command":"settle","id":"7"}\n{"command":"settle","id":1e300}\n',
        "reload": b'{"command":"reload"}\n',
        "parked": b'{"command":"advices","parked":true}\n',
        "two": lines["links"] + b"\n" + lines["sessions"],
        "no-object": b'[1]\n"status"\n{"command":{}}\n',
        "no-utf-8": b'{"command":"\xff"}\n' + lines["totals"],
        "deep": b'{"command":' + b"[" * 2900 + b"\n" + lines["totals"],
        "long": b" " * 3100 + b"\n" + lines["totals"],
    }


def journal() -> Seeds:
    """Databases of small pages, so that a whole one is a short input."""
    fields = msgspec.structs.fields(Row)
    columns = ", ".join(f"{field.name} {'TEXT' if field.type is str else 'BIGINT'}" for field in fields)
    plain: dict[str, Any] = {field.name: "" if field.type is str else 0 for field in fields}
    plain |= {"pair": targets.JOURNAL_PAIR, "kind": "request", "pan": "411111******1111", "amount": None}
    changed: dict[str, dict[str, Any]] = {
        "row": {"number": 1}, "text-number": {"number": "first"}, "no-pair": {"kind": None},
        "bytes": {"terminal": b"\xff\0"}, "real": {"amount": 0.5},
    }  # fmt: skip
    found = {name: _database(columns, {**plain, **values}) for name, values in changed.items()}
    return {
        **found,
        "no-utf-8": found["row"].replace(b"request", b"reque\xff\xff"),
        "no-table": _database("x TEXT", {"x": "y"}),
        "cut": found["row"][:1500],
        "text": b"a file of another kind\n" * 30,
        "nothing": b"",
    }


def _database(columns: str, row: dict[str, Any]) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        connection = sqlite3.connect(file.name, isolation_level=None)
        connection.execute("PRAGMA page_size=512")
        connection.execute(f"CREATE TABLE journal ({columns})")
        connection.execute(f"INSERT INTO journal VALUES ({','.join('?' * len(row))})", list(row.values()))
        connection.close()
        data = bytearray(Path(file.name).read_bytes())
    data[96:100] = bytes(4)  # SQLite's own version
    return bytes(data)


def key_files() -> Seeds:
    key = "5a" * 32
    return {
        "one": f"k1 {key}\n".encode(),
        "two": f"# rotated\nk2 {'A' * 43}= # base64\n\nk1 {key}\n".encode(),
        "twice": f"k1 {key}\nk1 {key}\n".encode(),
        "no-id": f"{key}\n".encode(),
        "short": f"k1 {key[:-2]}\n".encode(),
        "none": b"# nothing\n",
        "no-utf-8": f"k1 {key}\n".encode().replace(b"k", b"\xff"),
    }


def corpus() -> dict[str, Seeds]:
    """Every seed by target and name."""
    return {
        "framing": framing(),
        **{name: iso8583(name) for name in shipped_dialects()},
        "bertlv": bertlv(),
        "jpos": packagers(),
        "dialect": dialects(),
        "iso20022": iso20022(),
        "entry": entries(),
        "snapshot": snapshots(),
        "handover": handover(),
        "keys": {
            "life": b"7 123 0123456789abcdef",
            "dead": b"8 0 dead",
            "first": b"a/0000000001/0000000000000001",
            "later": b"b/0000000012/0000000000034567",
            "cut": b"7 123",
            "fence-written-otherwise": b"+7 01 t",
            "key-written-otherwise": b"a/1/1",
            "life-of-nobody": b"a/0000000000/0000000000000001",
        },
        "sealed": sealed(),
        "config": {
            "least": CONFIG.encode(),
            "links": (CONFIG + LINKS).encode(),
            "journal": (CONFIG + JOURNAL % "postgresql://switch:word@[::1]:5432/switch").encode(),
            "journal-no-port": (CONFIG + JOURNAL % "postgresql://h:port/switch").encode(),
            "beyond-64-bits": (CONFIG + "[limits]\nwaiters_max = 99999999999999999999\n").encode(),
            "no-utf-8": "# für die Bank\n".encode("latin-1"),
            "deep": b"x = " + b"[" * 1000,
        },
        "key-file": key_files(),
        "etcd-log": etcd_log(),
        "etcd-watch": etcd_watch(),
        "etcd-nodes": etcd_nodes(),
        "etcd-fitness": etcd_fitness(),
        "control": control(),
        "journal": journal(),
    }


def main() -> None:
    for name, seeds in corpus().items():
        folder = HERE / "corpus" / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, data in seeds.items():
            (folder / seed).write_bytes(data)


if __name__ == "__main__":
    main()
