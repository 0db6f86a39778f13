"""What is said on a link: messages built from templates, answers to what came, and messages read into names and values."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec
from lxml import etree

from messages.framing import Framer
from messages.iso8583 import load_dialect
from messages.iso8583.mti import REPEATS
from tools.scenarios import templates
from tools.scenarios.templates import NETWORK, Template

_PARSER = etree.XMLParser(resolve_entities=False, no_network=True)
_ORIGINAL_DATA = {"1987": (90, "transmission", 7), "1993": (56, "local_time", 12), "2003": (56, "local_time", 12)}


class SpeechError(Exception):
    """A message that the scenario asks for cannot be built, or one that came cannot be read."""


class Told(msgspec.Struct, frozen=True):
    """One message as a scenario sees it. mti: "0200", "pacs.008.001.08", or "keepalive"."""

    mti: str
    fields: dict[str, str]  # by number, "90.stan", or name of an XML element
    payload: bytes
    header: bytes = b""
    raw: Mapping[int, bytes] = {}
    stream: str = ""  # on which it came or went

    @property
    def numbers(self) -> list[int]:
        return [int(name) for name in self.fields if name.isdecimal()]


class Wanted(msgspec.Struct, frozen=True):
    """What a scenario says of a message that is to be sent. number: of this message, for what must be its own."""

    number: int = 0
    terminal: int = 1
    fields: Mapping[str, str] = {}
    without: Iterable[int] = ()
    mti: str = ""


class Speech(Protocol):
    """One link's messages."""

    framer: Framer

    def build(self, template: str, about: Told | None, wanted: Wanted) -> bytes: ...
    def repeat(self, message: Told) -> bytes: ...
    def answer(self, request: Told, wanted: Wanted) -> bytes: ...
    def read(self, payload: bytes) -> Told: ...
    def manners(self, message: Told) -> bytes | None:
        """The answer that a host gives by itself: to sign-on, sign-off and echo."""
        ...


def speech(link: Mapping[str, Any]) -> Speech:
    """Of a configured link. Raises SpeechError."""
    maximum = link.get("frame_max_bytes", 65_536)
    framer = Framer.of(link["framing"], link.get("header", "none"), maximum)
    return Cards(framer, link["iso8583"]["dialect"]) if "iso8583" in link else Transfers(framer)


class Cards:
    """ISO 8583 in one dialect."""

    def __init__(self, framer: Framer, dialect: str) -> None:
        self.framer = framer
        self._dialect = load_dialect(dialect)
        self._version = templates.VERSIONS[self._dialect.version]

    def build(self, template: str, about: Told | None, wanted: Wanted) -> bytes:
        stan = templates.STAN + wanted.number
        own = {7: templates.DATE + templates.TIME, 11: f"{stan:0{self._stan_digits()}d}"}
        if template in NETWORK:
            mti, fields = self._network(template)
            fields |= own
        elif template in templates.CARD:
            mti, fields = self._card(templates.CARD[template], about, own, wanted)
        else:
            raise SpeechError(f"no template {template!r}: {', '.join((*templates.CARD, *NETWORK))}")
        return self._assembled(wanted.mti or mti, {}, fields, wanted)

    def _stan_digits(self) -> int:
        return self._dialect.fields[11].notation.length

    def _network(self, template: str) -> tuple[str, dict[int, str]]:
        version, (old, new) = self._version, NETWORK[template]
        return (version.network, {12: version.time, 24: new}) if version.time else (version.network, {70: old})

    def _card(
        self, template: Template, about: Told | None, own: dict[int, str], wanted: Wanted
    ) -> tuple[str, dict[int, str]]:
        version = self._version
        fields: dict[int, str | None] = templates.COMMON | version.common
        fields |= {37: f"{wanted.number:012d}", 41: f"TERM{wanted.terminal:04d}"}
        if template.about:
            if about is None:
                raise SpeechError('this message is about another one: say "of" which')
            fields = {number: about.fields[str(number)] for number in templates.ABOUT if str(number) in about.fields}
        fields |= template.fields
        if version.time:
            fields |= template.in_1993
        if fields.get(39):
            fields[39] = version.approved
        fields |= own
        if about is not None:
            fields |= self._original_data(about)
        mti = version.network[0] + template.mti[1:]
        return mti, {number: value for number, value in fields.items() if value is not None}

    def _original_data(self, about: Told) -> dict[int, str]:
        """DE90 or DE56: which message this one is about."""
        number, name, time = _ORIGINAL_DATA[self._dialect.version]
        told = about.fields
        values = {"mti": _unmarked(about.mti), "stan": told.get("11", ""), name: told.get(str(time), "")}
        values |= {"acquirer_id": told.get("32", "")}
        return {number: self._dialect.join_subfields(number, values)}

    def repeat(self, message: Told) -> bytes:
        mti = message.mti[:3] + str(int(message.mti[3]) | 1)
        return self._dialect.assemble(mti, message.raw)

    def answer(self, request: Told, wanted: Wanted) -> bytes:
        mti = f"{request.mti[:2]}{int(request.mti[2]) + 1}{REPEATS.get(request.mti[3], request.mti[3])}"
        raw = {number: request.raw[number] for number in templates.ANSWERED if number in request.raw}
        approved = self._version.approved
        if self._version.time and mti[1] in "48":  # 400, 800: of a reversal, of network management
            approved = mti[1] + approved[1:]
        return self._assembled(wanted.mti or mti, raw, {39: approved}, wanted)

    def _assembled(self, mti: str, raw: dict[int, bytes], fields: dict[int, str], wanted: Wanted) -> bytes:
        values = {**fields, **{int(name): value for name, value in wanted.fields.items()}}
        raw = raw | {number: self._dialect.encode_field(number, value) for number, value in values.items()}
        return self._dialect.assemble(mti, {number: raw[number] for number in sorted({*raw} - {*wanted.without})})

    def read(self, payload: bytes) -> Told:
        body = self._dialect.decode(payload)
        fields = {str(number): value for number, value in body.fields.items()}
        for number in (90, 56, 30, 95):
            spec = self._dialect.fields.get(number)
            if number in body.fields and spec is not None and spec.spec.subfields:
                parts = self._dialect.subfields(number, body.fields[number])
                fields |= {f"{number}.{name}": value for name, value in parts.items()}
        return Told(body.mti, fields, payload, raw=body.raw)

    def manners(self, message: Told) -> bytes | None:
        if message.mti[1:2] != "8" or message.mti[2] not in "02":
            return None
        return self.answer(message, Wanted())


class Transfers:
    """ISO 20022 credit transfers."""

    def __init__(self, framer: Framer) -> None:
        self.framer = framer

    def build(self, template: str, about: Told | None, wanted: Wanted) -> bytes:
        if template != "transfer":
            raise SpeechError(f"no template {template!r}: transfer")
        values = {"msg_id": f"M-{wanted.number}", "end_to_end_id": f"E-{wanted.number}", **templates.TRANSFER_VALUES}
        values |= wanted.fields
        values |= {name: templates.AGENT.format(tag, values[name]) for name, tag in templates.AGENTS.items()}
        return templates.TRANSFER.format(**values).encode()

    def repeat(self, message: Told) -> bytes:
        return message.payload  # this rail has no mark of repeats

    def answer(self, request: Told, wanted: Wanted) -> bytes:
        told = request.fields
        values = {"msg_id": f"R-{told['MsgId']}", "original": told["MsgId"], "end_to_end_id": told["EndToEndId"]}
        values |= {"status": "ACSC", "reason": "", **wanted.fields}
        if values["reason"]:
            values["reason"] = templates.REASON.format(values["reason"])
        return templates.STATUS.format(**values).encode()

    def read(self, payload: bytes) -> Told:
        try:
            root = etree.fromstring(payload, _PARSER)
        except etree.XMLSyntaxError:
            raise SpeechError("not well-formed XML") from None
        fields: dict[str, str] = {}
        type = ""
        for element in root.iter("{*}*"):
            name = etree.QName(element)
            if name.localname == "Document":
                type = (name.namespace or "").rpartition(":")[2]
            if not len(element):
                fields.setdefault(name.localname, (element.text or "").strip())
        return Told(type, fields, payload)

    def manners(self, message: Told) -> bytes | None:
        return None


def _unmarked(mti: str) -> str:
    return mti[:3] + REPEATS.get(mti[3], mti[3])
