"""Rules that no node could live with are refused where an operator gives them: once in the log, they end every node."""

import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from switch.config import ConfigError, load
from switch.core.rules import NUMBERS, Tcp
from switch.sessions import kernel

EXAMPLE = Path(__file__).parents[2] / "conf" / "switch.toml"


def _with(tmp_path: Path, place: tuple[Any, ...], value: Any) -> Path:
    table = msgspec.toml.decode(EXAMPLE.read_bytes())
    at = table
    for key in place[:-1]:
        at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
    at[place[-1]] = value
    path = tmp_path / "switch.toml"
    path.write_bytes(msgspec.toml.encode(table))
    return path


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("link", 0, "tcp", "keepalive_idle_s"), 86_400, "link 'terminals': keepalive_idle_s is 86400, and may be 1 to 32767"),
        (("link", 1, "tcp", "keepalive_count"), 0, "link 'issuer': keepalive_count is 0, and may be 1 to 127"),
        (("link", 1, "tcp", "user_timeout_ms"), -1, "user_timeout_ms is -1"),
        (("link", 1, "tcp", "receive_buffer_bytes"), 1 << 31, "receive_buffer_bytes"),
        (("link", 0, "peek_max_bytes"), 0, "peek_max_bytes is 0"),
        (("link", 1, "connections"), 100_000, "connections is 100000"),
        (("link", 1, "parked_max"), 250_000, "'issuer'.*too few STANs"),
        (("link", 1, "timeout_ms"), (1 << 63) - 1, "timeout_ms is 9223372036854775807"),
        (("limits", "heartbeat_ms"), 5_000, "limits: heartbeat_ms is 5000, and may be 50 to 1000"),
        (("limits", "heartbeat_ms"), 0, "limits: heartbeat_ms is 0"),
        (("limits", "segment_bytes"), 20_000_000, "limits: segment_bytes is 20000000"),
        (("link", 1, "connect"), ["issuer.example:9000"], "'issuer.example:9000' is to have an IP address"),
        (("link", 0, "listen"), {"a": "terminals.example:7001"}, "'terminals.example:7001' is to have an IP address"),
        (("pair", "peer_silence_ms"), 50, "peer_silence_ms"),
    ],
)  # fmt: skip
def test_what_no_node_could_live_with_is_refused(tmp_path: Path, place: tuple[Any, ...], value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(_with(tmp_path, place, value))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("link", 0, "tcp", "keepalive_idle_s"), 32_767), (("limits", "heartbeat_ms"), 1_000),
        (("link", 1, "connect"), ["[2001:db8::1]:9000"]),
        (("link", 0, "iso8583", "field"), [{"field": "12", "action": "set", "offset_minutes": -300}]),
        (("link", 1, "connect"), ["localhost:9000"]), (("route", 0, "amount_max"), 999_999_999_999),
    ],
)  # fmt: skip
def test_what_can_be_is_taken(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    load(_with(tmp_path, place, value))


@pytest.mark.parametrize("name", Tcp.__struct_fields__)
def test_the_kernel_takes_what_may_be_set(name: str) -> None:
    for value in NUMBERS[name]:
        with socket.socket() as sock:
            kernel.configure(sock, msgspec.structs.replace(Tcp(), **{name: value}), 4096)
