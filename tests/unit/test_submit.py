"""What a node hands to the log: what no entry can hold is told to its maker, and is no end of the node."""

from types import SimpleNamespace

import pytest

from switch.core.proposals import End
from switch.mirror.errors import ProposalTooLarge
from switch.node import Node


def test_a_number_beyond_64_bits_is_refused_as_what_is_too_large():
    submitted = []
    node = SimpleNamespace(
        keys=SimpleNamespace(sealed=lambda proposal, version: proposal),
        mirror=SimpleNamespace(entry_version=2, submit=lambda body, subject: submitted.append(subject)),
    )
    Node.submit(node, End("a1.1", (1 << 64) - 1, "ended", 0), ("end", "a1.1"))
    with pytest.raises(ProposalTooLarge, match="End is beyond 64 bits"):
        Node.submit(node, End("a1.1", 1 << 64, "ended", 0), ("end", "a1.2"))
    assert submitted == [("end", "a1.1")]
