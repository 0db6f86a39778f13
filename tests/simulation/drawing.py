"""Draws an interaction as a person would: a column for each party, arrows between them, notes beside them, time downwards."""

from collections.abc import Callable, Sequence

import msgspec

GAP_MIN, NOTE_MAX = 12, 28  # columns of text between two lifelines; longer notes are wrapped
ALIVE, STOPPED, DEAD = "|", ":", " "


class Row(msgspec.Struct):
    """An arrow, or a note beside `source` (then there is no `target`). `lines`: how each party stood at that moment."""

    source: str
    target: str
    text: str
    lines: str


class Drawing:
    """Rows in the order in which they happened. `standing` tells of a party whether it is alive, stopped or dead."""

    def __init__(self, columns: Sequence[str], standing: Callable[[str], str]) -> None:
        self.columns = list(columns)
        self.rows: list[Row] = []
        self.closed = True  # what happens is not part of the drawing
        self._standing = standing

    def arrow(self, source: str, target: str, text: str) -> None:
        self._add(source, target, text)

    def note(self, column: str, text: str) -> None:
        self._add(column, "", text)

    def _add(self, source: str, target: str, text: str) -> None:
        if not self.closed:
            self.rows.append(Row(source, target, text, "".join(map(self._standing, self.columns))))

    # --- as text

    def render(self) -> str:
        places = self._places()
        heads = list(zip(self.columns, places, strict=True))
        head = ""
        for name, place in heads:
            head = head.ljust(max(place - len(name) // 2, 0)) + name
        lines = [head.rstrip()]
        for row in self.rows:
            lines += self._arrow(row, places) if row.target else self._note(row, places)
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _places(self) -> list[int]:
        """Where the lifelines stand: so far apart that each text finds room between them."""
        gaps = [GAP_MIN] * (len(self.columns) - 1)
        for row in self.rows:
            source = self.columns.index(row.source)
            if row.target:
                first, last = sorted((source, self.columns.index(row.target)))
                if last == first + 1:
                    gaps[first] = max(gaps[first], len(row.text) + 7)
            elif source < len(gaps):
                gaps[source] = max(gaps[source], min(len(row.text), NOTE_MAX) + 3)
        places = [len(self.columns[0]) // 2]
        for gap in gaps:
            places.append(places[-1] + gap)
        return places

    def _lifelines(self, row: Row, places: list[int]) -> list[str]:
        line = [" "] * (places[-1] + 1)
        for place, mark in zip(places, row.lines, strict=True):
            line[place] = mark
        return line

    def _arrow(self, row: Row, places: list[int]) -> list[str]:
        line = self._lifelines(row, places)
        here, there = places[self.columns.index(row.source)], places[self.columns.index(row.target)]
        low, high = min(here, there) + 1, max(here, there) - 1
        body = f"-- {row.text} ".ljust(high - low, "-")
        line[low : high + 1] = f"{body}>" if there > here else f"<{body}"
        return ["".join(line)]

    def _note(self, row: Row, places: list[int]) -> list[str]:
        column = self.columns.index(row.source)
        begin, last = places[column] + 2, column == len(places) - 1
        found = []
        for part in _wrapped(row.text, NOTE_MAX if last else places[column + 1] - begin - 1):
            line = [*self._lifelines(row, places), " "]
            line[begin : begin + len(part)] = part
            found.append("".join(line))
        return found


def _wrapped(text: str, width: int) -> list[str]:
    """Continuation lines are indented: they belong to the line above."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
