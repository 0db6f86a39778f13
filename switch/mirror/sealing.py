"""Seal what leaves the process: AES-256-GCM under named keys from a file that only its owner can read.

A sealed value is: format (1 byte, 1), length of the key's id (1 byte), the id, nonce (12 bytes, random), ciphertext and
tag (16 bytes). The associated data is the etcd path, so a value cannot be moved to another place.
Rotation: put a new first line into the key file and restart one node after the other; who meets a key that it has not read
yet reads the file again. With random nonces rotate a key before 2**32 values (NIST SP 800-38D, 8.3).
"""

import base64
import binascii
import contextlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import Unsealable

FORMAT = 1
KEY_BYTES = 32
NONCE_BYTES = 12
ID_BYTES_MAX = 32


class KeyFileError(Exception):
    """The key file cannot be used. The text names the file and the line, never a key."""


class Sealer:
    """Seals with the first key of its file, opens with any of them."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._ciphers: dict[bytes, AESGCM] = {}
        self._head = b""
        self.sealed = 0  # values under the present first key, by this process
        self.reload()

    def reload(self) -> None:
        """Read the key file again; raises KeyFileError and keeps the former keys if it is unfit."""
        keys = read_key_file(self._path)
        first = next(iter(keys))
        head = bytes((FORMAT, len(first))) + first
        if head != self._head:
            self.sealed = 0
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._head = head
        self._first = self._ciphers[first]

    @property
    def key_id(self) -> str:
        """The id of the key that seals."""
        return self._head[2:].decode()

    def seal(self, path: bytes, plain: bytes) -> bytes:
        """`plain` for the etcd key `path`."""
        nonce = os.urandom(NONCE_BYTES)
        self.sealed += 1
        return b"".join((self._head, nonce, self._first.encrypt(nonce, plain, path)))

    def open(self, path: bytes, value: bytes) -> bytes:
        """The inverse of `seal`; raises Unsealable."""
        if len(value) < 2 or value[0] != FORMAT:
            raise Unsealable(f"{path.decode()} does not hold a sealed value")
        start = 2 + value[1]
        name = value[2:start]
        cipher = self._ciphers.get(name) or self._learned(name)
        if cipher is None:
            raise Unsealable(f"{path.decode()} is sealed with key {name!r}, which {self._path} does not have")
        try:
            return cipher.decrypt(value[start : start + NONCE_BYTES], value[start + NONCE_BYTES :], path)
        except (InvalidTag, ValueError) as error:
            raise Unsealable(
                f"{path.decode()} was altered, or its key {name!r} differs from the one it was sealed with"
            ) from error

    def _learned(self, name: bytes) -> AESGCM | None:
        """The cipher of a key that has come into the file since it was read. What is sealed stays under the first of then."""
        with contextlib.suppress(KeyFileError, OSError):  # then the key is as good as missing, and that is told
            for each, key in read_key_file(self._path).items():
                self._ciphers.setdefault(each, AESGCM(key))
        return self._ciphers.get(name)


def read_key_file(path: Path) -> dict[bytes, bytes]:
    """Lines of `id key`, the key 32 bytes as hex or base64; `#` starts a comment. In the file's order."""
    with path.open(encoding="utf-8") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise KeyFileError(f"{path} can be read by others: chmod 600 {path}")
        try:
            lines = file.read().splitlines()
        except UnicodeDecodeError as error:
            raise KeyFileError(f"{path}: the byte at {error.start} is not UTF-8") from None
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[0].encode()) > ID_BYTES_MAX:
            raise KeyFileError(f"{path}:{number}: expected an id of at most {ID_BYTES_MAX} bytes and a key")
        name = words[0].encode()
        if name in keys:
            raise KeyFileError(f"{path}:{number}: the id {words[0]} is given twice")
        keys[name] = _decode_key(words[1], f"{path}:{number}")
    if not keys:
        raise KeyFileError(f"{path} holds no key: create one with `switchctl keygen`")
    return keys


def _decode_key(text: str, place: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{place}: a key is {KEY_BYTES} bytes, as hex or base64")
    return key


def create_key_file(path: Path | str, name: str = "k1") -> None:
    """Make a key file with one new key, mode 0600; raises FileExistsError rather than replace one."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{name} {os.urandom(KEY_BYTES).hex()}\n")
