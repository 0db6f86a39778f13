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
        return password_in(self.password_file)


def password_in(path: str) -> str:
    """The first line of a password file; "" where none is named. Raises OSError when it cannot be read, or has no such line."""
    if not path:
        return ""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise OSError(f"{path}: the byte at {error.start} is not UTF-8") from None
    if not lines or not lines[0]:
        raise OSError(f"{path}: its first line is to be the password, and is empty")
    return lines[0]
