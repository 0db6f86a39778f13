"""What an operator may set about etcd, with the defaults that were measured to be good."""

from pathlib import Path

import msgspec


class EtcdSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach etcd and how long to wait for it. Names end in their unit."""

    endpoints: tuple[str, ...]  # client URLs: "http://host:2379", "https://host:2379"
    ca_file: str = ""  # PEM; needed with https
    cert_file: str = ""  # PEM; our certificate where etcd asks for one
    key_file: str = ""  # PEM; its private key
    user: str = ""
    password_file: str = ""  # its first line is the password: no secret stands in the configuration

    append_timeout_ms: int = 500  # one attempt of an append; then the identical bytes go to the next endpoint
    call_timeout_ms: int = 1000  # one attempt of anything else
    settle_after_ms: int = 1000  # of unknown fate: an empty entry competes with the batch
    hold_after_ms: int = 1000  # without an append that is known and seen: the switch holds
    watch_stall_ms: int = 1000  # own entry appended but not seen: the watch changes endpoint
    lease_ttl_s: int = 5
    batch_bytes_max: int = 512 * 1024  # proposals packed into one entry (etcd refuses requests over 1.5 MiB)

    def password(self) -> str:
        """The password for `user`; raises OSError when its file cannot be read."""
        return Path(self.password_file).read_text().splitlines()[0] if self.password_file else ""
