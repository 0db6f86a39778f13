"""The administrative message by which a link tells its sender that a frame could not be read (0620, 1644, 2644).

It says where the frame stood and what was wrong, never what was in it: no byte of what could not be understood goes back.
A message of class 6 is never answered by one, so that two parties that do not understand each other fall silent.
"""

import msgspec

from messages.iso8583.dialect import Dialect
from messages.iso8583.mti import ADMINISTRATIVE
from messages.iso8583.stamps import Moment, stamp
from messages.message import MessageError

_MTI = {"1987": "0620", "1993": "1644", "2003": "2644"}  # an advice; notifications, which 1987 has not
_TEXT_FIELDS = {"1987": 48, "1993": 72, "2003": 72}  # additional data, private; data record
_FUNCTION = "650"  # DE24 of 1993 and 2003: unable to parse message


class Administrative(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `administrative` table of a link's iso8583 options; what is empty takes the version's practice."""

    mti: str = ""
    text_field: str = ""  # where the text goes
    fields: dict[str, str] = {}  # further fields, and those that replace the version's own ("24")


class Complaint:
    """Compiled. Raises ValueError for options that cannot work."""

    def __init__(self, options: Administrative, dialect: Dialect) -> None:
        self.mti = options.mti or _MTI.get(dialect.version, "")
        if len(self.mti) != 4 or not self.mti.isdecimal() or self.mti[1] != "6" or self.mti[2] not in "024":
            raise ValueError(f"administrative: {self.mti!r} is no MTI of class 6 that tells something")
        self._dialect = dialect
        times = (7,) if dialect.version == "1987" else (7, 12)
        self._stamps = {number: stamp(number, dialect) for number in times if number in dialect.fields}
        names = [name for name in (options.text_field, *options.fields) if name]
        if any(not name.isdecimal() or int(name) not in dialect.fields for name in names):
            raise ValueError(f'administrative: a field is not in {dialect.name}: fields are numbers like "48"')
        self._text = int(options.text_field or _TEXT_FIELDS[dialect.version])
        own = {} if dialect.version == "1987" else {24: _FUNCTION}
        self._fields = {**own, **{int(name): value for name, value in options.fields.items()}}
        try:
            for number, value in self._fields.items():
                dialect.encode_field(number, value)
        except MessageError as error:
            raise ValueError(f"administrative: {error}") from None

    def answers(self, payload: bytes) -> bool:
        """Whether these unreadable bytes may be answered: not where their MTI is of class 6: two ends would never stop."""
        if len(payload) < self._dialect.mti_length:
            return True
        classes = [self._dialect.encode_mti(f"{version}{ADMINISTRATIVE}00") for version in "012"]
        half = self._dialect.mti_length // 2  # version and class
        return payload[:half] not in [mti[:half] for mti in classes]

    def fields(self, error: MessageError, size: int, start: int, moment: Moment) -> dict[int, str]:
        """Its fields but for the STAN. `size` of the payload in bytes, `start`: its place in the input."""
        fields = {number: make({}, moment) for number, make in self._stamps.items()} | self._fields
        field = self._dialect.fields.get(self._text)
        if field is not None:
            fields[self._text] = f"UNREADABLE {size} BYTES AT {start}: {error}"[: field.notation.length]
        return fields
