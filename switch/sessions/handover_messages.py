"""What the nodes say to each other over the handover socket: msgpack, one message a datagram."""

import msgspec

from switch.core.proposals import Open

VERSION = 1


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    version: int
    pair: str
    incarnation: str
    token: str
    entries: int = 1  # the newest version of entries that it applies


class Sockets(msgspec.Struct, frozen=True, array_like=True, tag="sockets"):
    """One descriptor a row: what the session's entry says, or will say."""

    opens: tuple[Open, ...]


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="gone"):
    """These sessions are over at the sender: their descriptors may be closed."""

    sessions: tuple[str, ...]


class Listeners(msgspec.Struct, frozen=True, array_like=True, tag="listeners"):
    """One descriptor a name."""

    names: tuple[str, ...]


class Synced(msgspec.Struct, frozen=True, array_like=True, tag="synced"):
    pass


class Beat(msgspec.Struct, frozen=True, array_like=True, tag="beat"):
    pass


Message = Hello | Sockets | Gone | Listeners | Synced | Beat
_decode = msgspec.msgpack.Decoder(Message).decode
encode = msgspec.msgpack.Encoder().encode
BEAT = encode(Beat())


def decode(data: bytes) -> Message:
    """Raises ValueError for what is no message."""
    try:
        message: Message = _decode(data)
        return message
    except (msgspec.MsgspecError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"no message of a handover ({type(error).__name__})") from None
