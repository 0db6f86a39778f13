"""A pair of engines whose proposals go through the data keys of their nodes, as they do in the daemon."""

from pathlib import Path

from engines import FRAMER, Pair

from switch.core.proposals import Proposal
from switch.core.records import Role
from switch.core.rules import Rules
from switch.datakeys import DataKeys


class SealingPair(Pair):
    """What is proposed is sealed where node.py seals it."""

    def __init__(self, path: Path, given: Rules | None = None) -> None:
        self.path = path
        self.keys: dict[str, DataKeys] = {}
        super().__init__(given)

    def join(self, node: str) -> str:
        id_ = super().join(node)
        self.keys[node] = DataKeys(self.path, node, 5)
        self.keys[node].begin(int(id_[1:]))
        return id_

    def append(self, node: str, *proposals: Proposal) -> list[bool]:
        return super().append(node, *(self.keys[node].sealed(each, self.state.meta.version) for each in proposals))

    def sent(self, id_: str, role: Role | None = None) -> list[bytes]:
        keys = next(iter(self.keys.values()))
        return [FRAMER.cut(keys.open(out.data)).frames[0].payload for out in self.outs(id_, role)]

    def tend_keys(self, nodes: str = "ab") -> None:
        for node in nodes:
            self.keys[node]._look_at = 0.0
            self.keys[node].tend(self.state, self.engines[node].incarnation)

    def settle(self) -> None:
        """Both nodes say what they have applied, and look after their keys: what was unused is found so, then destroyed."""
        for _ in range(3):
            self.pass_ms(500)
            self.tend_keys("".join(self.engines))
