"""Where everything is in etcd: key paths, zero-padded so that key order is number order, and the fence's value."""

import msgspec

from .errors import LogBroken

NODES = ("a", "b")
DEAD = "dead"


class Fence(msgspec.Struct, frozen=True):
    """Who may append for a node. Kept as clear text of three words, to be read with etcdctl and compared bytewise."""

    incarnation: int
    sequence: int  # of the last entry of this incarnation
    token: str  # of the process; "dead" when an heir has fenced it

    def encode(self) -> bytes:
        """The exact bytes that appends compare."""
        return f"{self.incarnation} {self.sequence} {self.token}".encode()

    @property
    def dead(self) -> bool:
        return self.token == DEAD


def decode_fence(value: bytes) -> Fence:
    """Raises LogBroken for what no mirror has written."""
    try:
        incarnation, sequence, token = value.decode().split(" ")
        fence = Fence(int(incarnation), int(sequence), token)
        if fence.encode() != value:  # "+1" or "01": appends compare bytes, so none would ever succeed
            raise ValueError("written otherwise")
    except ValueError as error:
        raise LogBroken(f"not a fence: {value[:64]!r}") from error
    return fence


class Position(msgspec.Struct, frozen=True, gc=False):
    """Which entry of which life of which node."""

    node: str
    incarnation: int
    sequence: int


class Keys:
    """The paths of one pair."""

    def __init__(self, pair: str) -> None:
        if not pair or "/" in pair:
            raise ValueError(f"a pair's name must be a path segment, not {pair!r}")
        prefix = f"/switch/{pair}/"
        self.prefix = prefix.encode()
        self.head = f"{prefix}head".encode()
        self.log = f"{prefix}log/".encode()
        self.log_end = f"{prefix}log0".encode()  # "0" follows "/": [head, log_end) is `head` and `log/`, nothing else
        self.pointer = f"{prefix}snapshot".encode()
        self.chunks = f"{prefix}snapshot/".encode()
        self.segments = f"{prefix}snapshot/segment/".encode()
        self.segments_end = f"{prefix}snapshot/segment0".encode()
        self.nodes = f"{prefix}node/".encode()
        self.nodes_end = f"{prefix}node0".encode()

    def fence(self, node: str) -> bytes:
        return self.prefix + b"fence/" + node.encode()

    def node(self, node: str) -> bytes:
        return self.nodes + node.encode()

    def node_log(self, node: str) -> bytes:
        """The start of all entries of a node."""
        return self.log + node.encode() + b"/"

    def entry(self, position: Position) -> bytes:
        return self.log + f"{position.node}/{position.incarnation:010d}/{position.sequence:016d}".encode()

    def position(self, key: bytes) -> Position:
        """The inverse of `entry`; raises LogBroken for any other key."""
        try:
            node, incarnation, sequence = key[len(self.log) :].decode().split("/")
            position = Position(node, int(incarnation), int(sequence))
            if node not in NODES or not position.incarnation or self.entry(position) != key:
                raise ValueError("written otherwise")
        except ValueError as error:
            raise LogBroken(f"not a key of the log: {key[:128]!r}") from error
        return position

    def chunk(self, index: int, number: int) -> bytes:
        return self.chunks_of(index) + f"{number:06d}".encode()

    def chunks_of(self, index: int) -> bytes:
        """The start of all chunks of the snapshot at `index`."""
        return self.chunks + f"{index:020d}/".encode()

    def segment(self, name: str) -> bytes:
        if not name or "/" in name:
            raise ValueError(f"a segment's name must be a path segment, not {name!r}")
        return self.segments + name.encode()
