"""The journal of a scenario in virtual time: what the lead writes, and its database in memory: a key keeps its first row."""

from engines import Pair

from switch.core.proposals import Journaled
from switch.journal.rows import Row, Rows


class Database:
    """See switch.journal.writer, which says by `Journaled` what is durable, and switch.journal.store, which reads."""

    def __init__(self) -> None:
        self.away = False
        self._rows: dict[tuple[str, int], Row] = {}

    def take(self, pair: Pair) -> bool:
        """All that waits in the state. Whether anything did."""
        lead = pair.state.lead()
        if self.away or not lead or not pair.state.journal:
            return False
        engine = pair.engines[lead[0]]
        state = engine.state
        make = Rows("demo", state.meta.origin, engine.node)
        for number, item in state.journal.items():
            self._rows.setdefault((state.meta.origin, number), make.row(number, item, engine.wires, ""))
        assert pair.append(engine.node, Journaled(max(state.journal))) == [True]
        return True

    def read(self, link: str, date: str) -> list[Row]:
        """As Store.read: where the link, or the date, is of either side."""
        return [
            row
            for row in self._rows.values()
            if link in ("", row.link, row.target) and date in ("", row.source_date, row.target_date)
        ]
