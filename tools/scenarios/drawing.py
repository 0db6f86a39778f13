"""A picture of an exchange in text: terminals on the left, the switch in the middle, hosts on the right. No card data."""

from collections.abc import Collection

from tools.scenarios.expect import masked
from tools.scenarios.speech import Told

LEFT, ARROW = 8, 46
# in this order, as there is room
SHOWN = ("39", "11", "4", "70", "24", "37", "TxSts", "Cd", "EndToEndId", "OrgnlEndToEndId")
NAMES = {"EndToEndId": "E2E", "OrgnlEndToEndId": "E2E"}


class Drawing:
    """Grows line by line as a scenario is played."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = frozenset(hosts)
        self._lines: list[str] = []

    def message(self, actor: str, sent: bool, told: Told, name: str) -> None:
        """A message of an actor to the switch (`sent`), or of the switch to the actor."""
        label = " ".join(filter(None, (told.mti, name and f"[{name}]")))
        for number in SHOWN:
            value = told.fields.get(number)
            if value is not None:
                text = f" {'DE' + number if number.isdecimal() else NAMES.get(number, number)}={masked(number, value)}"
                if len(label) + len(text) <= ARROW - 6:
                    label += text
        leftwards = sent == (actor in self._hosts)
        begin, end = ("<-", "") if leftwards else ("-", ">")
        self._line(actor, f"{begin} {label} ".ljust(ARROW - len(end), "-") + end)

    def event(self, actor: str, text: str) -> None:
        """What an actor does beside messages."""
        self._line(actor, f"  ({text})")

    def remark(self, text: str) -> None:
        """What concerns all."""
        self._lines.append(f"{'':{LEFT}} {f' {text} ':=^{2 * ARROW + 1}}")

    def _line(self, actor: str, text: str) -> None:
        if actor in self._hosts:
            self._lines.append(f"{'':{LEFT}} {'':{ARROW}}|{text:{ARROW}} {actor}")
        else:
            self._lines.append(f"{actor:>{LEFT}} {text:{ARROW}}|")

    def text(self) -> str:
        """The picture so far."""
        head = f"{'':{LEFT}} {'':{ARROW - 3}}switch"
        return "\n".join([head, *[line.rstrip() for line in self._lines]])
