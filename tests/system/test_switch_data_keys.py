"""A copy of etcd with its history, and the key file, give no track or PIN block once the data key is destroyed."""

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import etcd3.etcdrpc as rpc
import grpc
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from switch_rig import Recording, Traffic, clean, fresh, hashes_agree, heard_by_issuer, metrics, owned, settled, until
from test_switch_card_data import DISCRETIONARY, PAN, PIN_BLOCK, Values, found, private_dialect, request

from switch.core.proposals import Request, decode_entry
from switch.core.sealed import KEY_ID_BYTES, Sealed
from switch.datakeys import KEY_BYTES, SIZE, SLOT_BYTES, DataKeys, KeyGone
from switch.mirror.sealing import Sealer
from tools.fdstore import FdStore
from tools.pair import Settings, Switch

LIMITS = {"snapshot_entries": 60, "heartbeat_ms": 100}
SECRET = {DISCRETIONARY, PIN_BLOCK}


def keys_in(data: bytes) -> dict[bytes, bytes]:
    """The keys in a data key file by their ids, as whoever steals it finds them."""
    slots = (data[at : at + SLOT_BYTES] for at in range(0, SIZE - SLOT_BYTES, SLOT_BYTES))
    return {slot[:KEY_ID_BYTES]: slot[-KEY_BYTES:] for slot in slots if slot[:KEY_ID_BYTES] != bytes(KEY_ID_BYTES)}


def forwards(sealer: Sealer, values: Iterable[tuple[bytes, bytes]]) -> Iterator[Sealed]:
    """What the entries among these values sent to the issuer and the bank, as far as the key file opens them."""
    for path, value in values:
        if b"/log/" in path:
            for proposal in decode_entry(sealer.open(path, value)):
                if isinstance(proposal, Request):
                    assert isinstance(proposal.frame, Sealed)
                    yield proposal.frame


def backup(switch: Switch) -> bytes:
    """What `etcdctl snapshot save` writes: the database with its history."""
    with grpc.insecure_channel(switch.etcd.endpoints[0].removeprefix("http://")) as channel:
        return b"".join(part.blob for part in rpc.MaintenanceStub(channel).Snapshot(rpc.SnapshotRequest()))


def every_file(directory: Path) -> Iterator[tuple[Path, bytes]]:
    for path in directory.rglob("*"):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):  # etcd's own come and go
                yield path, path.read_bytes()


def opens(key: bytes, sealed: Sealed) -> bool:
    value = sealed.value
    try:
        AESGCM(key).decrypt(bytes(4) + value[8:16], value[16:], None)
    except InvalidTag:
        return False
    return True


@pytest.mark.timeout(300)
def test_what_was_copied_cannot_be_opened_any_more_and_the_pair_goes_on(
    tmp_path: Path, start: Callable[..., Switch]
) -> None:
    settings = Settings(terminals=private_dialect(tmp_path), limits=LIMITS, pair={"data_key_minutes": 60.0})
    switch = start(settings)
    recording, number = Recording(switch.directory / "own"), fresh()
    shared = switch.directory / "demo.data-keys"
    sealer = Sealer(switch.directory / "keys")
    with contextlib.ExitStack() as stack:
        stack.callback(switch.stop_nodes)
        for node in "ab":  # the service manager's part: the sockets outlive both nodes
            switch.nodes[node].store = stack.enter_context(FdStore(tmp_path / f"{node}.notify"))
            switch.nodes[node].stop()
            switch.start(node)
        values = stack.enter_context(Values(switch))
        traffic = stack.enter_context(Traffic(switch, traffic="cards", rate=60))
        lines = stack.enter_context(contextlib.ExitStack())
        terminals = {node: lines.enter_context(owned(switch, node, recording=recording)) for node in "ab"}
        first = terminals["a"].ask(request(number))
        assert terminals["b"].ask(request())[39] == first[39] == "00"
        values.catch_up()
        copied, stolen = backup(switch), shared.read_bytes()
        copies = list(forwards(sealer, values.values))
        assert any(value in copied for path, value in values.values if b"/log/" in path)
        # as long as its key lives, who has everything has that too
        (tmp_path / "stolen").write_bytes(stolen)
        thief = DataKeys(tmp_path / "stolen", "a", 1)
        assert {marker for each in copies for marker in found(thief.open(each))} >= {PAN, *SECRET}

        keys = keys_in(stolen)
        assert {each.key for each in copies} == set(keys) and len(keys) == 2
        for node in "ab":
            assert switch.ask(node, "rotate-key")["rotated"]
        until(lambda: not keys.keys() & keys_in(shared.read_bytes()).keys(), "the keys to be destroyed")
        for node in "ab":
            until(lambda: switch.ask(node)["data_keys"]["alive"] == 2, "the new keys alone")  # noqa: B023
            assert "\nswitch_data_keys 2.0\n" in metrics(switch, node)
        # whoever comes now has no key to the copy, not in any file and not by trying what there is
        assert [path for path, data in every_file(switch.directory) for key in keys.values() if key in data] == []
        shutil.copy(shared, tmp_path / "later")
        late_thief = DataKeys(tmp_path / "later", "a", 1)
        for each in copies:
            with pytest.raises(KeyGone):
                late_thief.open(each)
        for data in (shared.read_bytes(), (switch.directory / "keys").read_bytes()):
            windows = {data[at : at + KEY_BYTES] for at in range(len(data) - KEY_BYTES)}
            assert not any(opens(key, each) for each in (copies[0], copies[-1]) for key in windows)
        assert {marker for path, value in values.values if b"/log/" in path or b"/snapshot/" in path
                for marker in found(sealer.open(path, value))} & SECRET == set()  # fmt: skip

        for node in "ab":
            switch.nodes[node].signal(signal.SIGKILL)
        for node in "ab":
            switch.nodes[node].respawn()
        for node in "ab":
            switch.wait_ready(node)
        traffic.more(50)
        assert terminals["b"].ask(request(number, mti="0201")) == first
        assert heard_by_issuer(switch, number) == {"0200": 1}
        lines.close()
        hashes_agree(switch)
        clean(switch, traffic, recording)
    assert not any("key.gone" in text for _, text in switch.logs())


def test_after_a_restart_of_the_host_what_was_decided_is_known_and_what_was_not_is_reversed(
    tmp_path: Path, start: Callable[..., Switch]
) -> None:
    """The sockets are gone and the data keys with them; outcomes, timers and advices are under the key file's key."""
    switch = start(Settings(terminals=private_dialect(tmp_path), limits=LIMITS, timeout_ms=4000))
    done, open_ = fresh(), fresh()
    with owned(switch, "a") as terminal:
        first = terminal.ask(request(done))
        assert first[39] == "00"
        settled(switch)
        switch.simulators["issuer"].signal(signal.SIGSTOP)
        terminal.request(request(open_))
        until(lambda: switch.ask("a")["transactions"] == 1, "the request to be on its way")
        for node in "ab":
            switch.nodes[node].signal(signal.SIGKILL)
        for node in "ab":
            switch.nodes[node].wait()
    (switch.directory / "demo.data-keys").unlink()
    switch.simulators["issuer"].signal(signal.SIGCONT)
    for node in "ab":
        switch.start(node)
    with owned(switch, "b") as terminal:
        assert terminal.ask(request(done, mti="0201")) == first
        until(lambda: heard_by_issuer(switch, open_).get("0420") == 1, "the reversal of what nobody answered")
        assert terminal.ask(request(open_, mti="0201"))[39] == "68"
    hashes_agree(switch)
    assert switch.defects() == []
