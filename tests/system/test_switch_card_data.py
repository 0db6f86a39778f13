"""Marked card data through everything that happens to requests: nothing of it is in clear outside of the processes."""

import contextlib
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import etcd3.etcdrpc as rpc
import grpc
from switch_rig import (
    TRANSFERS,
    WAIT_S,
    Traffic,
    Wire,
    card_request,
    fresh,
    health,
    heard_by_issuer,
    logged,
    metrics,
    settled,
    until,
)

from switch.mirror.sealing import Sealer
from tools.pair import Settings, Switch
from tools.transfer_requests import built_in_templates

# no digits of these come by chance: neither in the injector's cards nor in numbers of keys, times and counters
PAN, DECLINED = "4761739184726358", "4761739184726350"
TRACK_2 = f"{PAN}=49127391828374650193"
PIN_BLOCK = "B7C91D5E83F2A64D"
CVV = "CVV2=918364"
DISCRETIONARY = "7391828374650193"
IBAN = "BE71096918364718"
MARKERS = (PAN, DECLINED, DISCRETIONARY, PIN_BLOCK, CVV, "918364", IBAN)
TOO_LATE = "91"  # a request that waited longer than its timer here, while etcd or this machine stood still
CHIP = f"5A08{PAN}5713{TRACK_2.replace('=', 'D')[:37].ljust(38, 'F')}9F0206000000010000"


def found(data: bytes) -> list[str]:
    """The markers that these bytes show: as text in ASCII or EBCDIC, as hex text, or packed at either nibble."""
    digits = data.hex().upper()
    text = data.decode("latin-1").upper()
    ebcdic = data.decode("cp500").upper()
    return [
        marker
        for marker in MARKERS
        if marker in text
        or marker in ebcdic
        or marker.encode().hex().upper() in text
        or (re.fullmatch("[0-9A-F]+", marker) and len(marker) > 8 and marker in digits)
    ]


class Values:
    """Every value that is put under the pair's prefix from here on, however soon it is deleted."""

    def __init__(self, switch: Switch) -> None:
        self.values: list[tuple[bytes, bytes]] = []
        self._switch = switch
        self._revision = 0  # up to which all are here
        self._channel = grpc.insecure_channel(
            switch.etcd.endpoints[0].removeprefix("http://"), [("grpc.max_receive_message_length", 1 << 28)]
        )
        self._over = threading.Event()
        self._created = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _requests(self) -> Iterator[rpc.WatchRequest]:
        create = rpc.WatchCreateRequest(key=b"/switch/", range_end=b"/switch0")
        yield rpc.WatchRequest(create_request=create)
        self._over.wait()

    def _run(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for response in rpc.WatchStub(self._channel).Watch(self._requests()):
                self._created.set()
                self.values += [(event.kv.key, event.kv.value) for event in response.events if event.kv.value]
                self._revision = max([self._revision, *(event.kv.mod_revision for event in response.events)])

    def __enter__(self) -> "Values":
        self._thread.start()
        assert self._created.wait(WAIT_S)
        return self

    def catch_up(self) -> None:
        """Until what the nodes have applied is here, too."""
        revision = max(self._switch.ask(node)["mirror"]["revision"] for node in "ab")
        until(lambda: self._revision >= revision, "the values up to here")

    def present(self) -> list[tuple[bytes, bytes]]:
        """What is there at this moment."""
        every = rpc.KVStub(self._channel).Range(rpc.RangeRequest(key=b"/switch/", range_end=b"/switch0"))
        return [(kv.key, kv.value) for kv in every.kvs]

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._channel.close()


def request(number: int | None = None, *, pan: str = PAN, **more: str | None) -> bytes:
    track = TRACK_2.replace(PAN, pan)
    return card_request(number, pan=pan, de35=track, de52=PIN_BLOCK, de48=CVV, de55=CHIP, **more)


def everything_happens(switch: Switch) -> None:
    """Approvals, declines, timeouts with reversals, repeats, refusals, and bytes that are no message."""
    ports, pans = switch.ports, itertools.cycle((PAN, DECLINED, PAN, PAN, PAN))  # of which every third is not answered
    with Wire(ports.terminals["a"]) as a, Wire(ports.terminals["b"]) as b, Wire(ports.further["unrouted"]["a"]) as c:
        codes: set[str] = set()
        while not codes >= {"00", "51", "68"}:
            pan, number = next(pans), fresh()
            first = a.ask(request(number, pan=pan))
            codes.add(first[39])
            assert codes <= {"00", "51", "68", TOO_LATE}
            assert b.ask(request(number, pan=pan, mti="0201"))[39] == first[39]
            assert b.ask(request(number, pan=pan, de4="000000077777"))[39] == "94"  # another one under its key
        assert a.ask(request(de2=None))[39] in ("00", "68", TOO_LATE)  # the PAN is in track 2 alone
        assert c.ask(request())[39] == "92"
    whole = request()
    for payload in (
        whole[:-7], whole[:60], whole[:20], whole + b"\x41", b"\x02\x00" + b"\xff" * 16 + whole[10:],
        whole.replace(bytes.fromhex(PIN_BLOCK), b""), PAN.encode() * 3, bytes.fromhex(PAN) * 5, TRACK_2.encode(),
        whole.replace(b"978", b"9:8"), whole[:2] + whole[3:],
    ):  # fmt: skip
        with Wire(ports.terminals["a"]) as wire:
            wire.request(payload)
            wire.sock.shutdown(socket.SHUT_WR)
            wire.rest()
    with Wire(ports.terminals["b"]) as wire:
        wire.send(PAN.encode() * 4 + TRACK_2.encode())  # no frame either
        wire.rest()
    transfer = built_in_templates()[0].build("8", fresh(), datetime.now(UTC), random.Random(1)).payload
    for spoilt in (
        transfer.replace(b"<BICFI>", b"<BICFI>" + IBAN.encode(), 1), transfer.replace(b"</EndToEndId>", b"", 1),
        re.sub(b'Ccy="EUR">[^<]*', b'Ccy="EUR">' + IBAN.encode(), transfer), b"<" + IBAN.encode() + b">",
        re.sub(b"<IBAN>[^<]*", b"<IBAN>" + IBAN.encode() + b"?", transfer), transfer + IBAN.encode(),
        transfer.replace(b"<GrpHdr>", b"<" + IBAN.encode() + b"/><GrpHdr>"),
    ):  # fmt: skip
        with Wire(ports.banks["b"], TRANSFERS) as wire:
            wire.request(spoilt)
            wire.sock.shutdown(socket.SHUT_WR)
            wire.rest()


def told(switch: Switch) -> Iterator[tuple[str, bytes]]:
    """What operators can see: control socket, switchctl, metrics, health, logs."""
    for node in "ab":
        for command in ("status", "sessions", "links", "metrics", f"show {PAN}", "no such command"):
            yield f"control {node} {command[:4]}", json.dumps(switch.ask(node, command)).encode()
        yield f"metrics {node}", metrics(switch, node).encode()
        yield f"health {node}", json.dumps(health(switch, node)[1]).encode()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT_S)
            sock.connect(str(switch.directory / f"demo-{node}.sock"))
            sock.sendall(f'{PAN} {{"command": "{TRACK_2}"\n'.encode())
            yield f"control {node}, no JSON", sock.recv(65_536)
    arguments = ["-c", "from switch.ops.switchctl import main; main()", "sessions", "--config", str(switch.config_path)]
    shown = subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    yield "switchctl", shown.stdout + shown.stderr
    for name, text in switch.logs():
        if name.startswith("node"):
            yield f"log of {name}", text.encode()


def test_the_search_finds_what_is_there() -> None:
    for data in (
        PAN.encode(), bytes.fromhex(PAN), bytes.fromhex(f"0{PAN}0"), PAN.encode("cp500"), TRACK_2.encode(),
        bytes.fromhex(CHIP), CHIP.encode(), PAN.encode().hex().encode(), bytes.fromhex(PIN_BLOCK), PIN_BLOCK.encode(),
        CVV.encode(), request(), request(pan=DECLINED), PIN_BLOCK.lower().encode(),
    ):  # fmt: skip
        assert found(b"before" + data + b"after")


def private_dialect(directory: Path) -> dict[str, object]:
    """Of the terminals: it says that DE48 is where they put a CVV."""
    path = directory / "private.toml"
    path.write_text('base = "iso87-binary"\n[fields]\n48 = { format = "ansb...999", sensitive = true }\n')
    return {"iso8583": {"dialect": str(path)}}


def test_marked_card_data_is_nowhere_in_clear(start: Callable[..., Switch], tmp_path: Path) -> None:
    private = private_dialect(tmp_path)
    switch = start(Settings(
        terminals=private,
        timeout_ms=2000, pair={"log_level": "debug"}, issuer={"advice_retry_ms": 500}, issuer_options=("--lose", "1/3"),
        limits={"snapshot_entries": 40, "segment_outcomes": 5}, further={"unrouted": private},
    ))  # fmt: skip
    with Values(switch) as values:
        with Traffic(switch, traffic="transfers", rate=60):
            everything_happens(switch)
            logged(switch, "transaction.timeout")
            until(lambda: heard_by_issuer(switch)["0420"], "a reversal")
            snapshot = switch.ask("a")["snapshot"]
            until(lambda: switch.ask("a")["snapshot"] > snapshot, "another snapshot")
            logged(switch, "log.truncated")
            values.catch_up()
            present = values.present()
            assert any(b"/snapshot/" in key for key, _ in present)
            seen = [*present, *values.values]
            assert len(seen) > 100
            assert [(key, found(value)) for key, value in seen if found(value) or found(key)] == []
        settled(switch)
        shown = list(told(switch))
        values.catch_up()
        # the search has looked at the right place: opened, the same values show the cards
        sealer = Sealer(switch.directory / "keys")
        opened = [
            (key, sealer.open(key, value)) for key, value in values.values if b"/log/" in key or b"/snapshot/" in key
        ]
        inside = {marker for _, plain in opened for marker in found(plain)}
        assert inside >= {PAN, DECLINED}
        # but track, PIN block and CVV are under a data key as well
        assert inside & {DISCRETIONARY, PIN_BLOCK, CVV} == set()
        assert [(name, found(data)) for name, data in shown if found(data)] == []
    assert switch.defects() == []
