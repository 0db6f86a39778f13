"""Loads dialects: shipped ones by name, TOML files and jPOS GenericPackager files by path.

A TOML file may name a `base` (a shipped name, or a path beside it) that it changes field by field; what a field does
not say itself comes from the file's tables for its type. See messages/README.md.
"""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from messages.iso8583.dialect import Dialect, Layout
from messages.iso8583.field import FieldFormat
from messages.iso8583.jpos import read_packager
from messages.iso8583.notation import Notation

SHIPPED = Path(__file__).parent / "dialects"


class DialectFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML file laid over its bases."""

    version: str
    mti: str
    bitmap: str
    length: str  # encoding of length indicators
    types: dict[str, str]  # type of Notation, or "text" for the rest -> encoding
    fields: dict[int, FieldFormat]
    pad: str = "left 0"

    def layout(self) -> Layout:
        """Every field with its encoding filled in. Raises ValueError."""
        fields = {number: self._fill(spec) for number, spec in self.fields.items()}
        return Layout(self.version, self.mti, self.bitmap, fields)

    def _fill(self, spec: FieldFormat) -> FieldFormat:
        kind = Notation.parse(spec.format).type
        kind = "n" if kind == "x+n" else kind
        return msgspec.structs.replace(
            spec,
            encoding=spec.encoding or self.types.get(kind) or self.types["text"],
            length_encoding=spec.length_encoding or self.length,
            pad=spec.pad or self.pad,
        )


@lru_cache(maxsize=64)
def load_dialect(name_or_path: str) -> Dialect:
    """The dialect of this shipped name ("iso87-ascii"), TOML path, or jPOS XML path; loaded once a process.

    Raises ValueError that names the file and what is wrong in it.
    """
    try:
        return Dialect(name_or_path, _read(name_or_path))
    except (OSError, KeyError, ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"dialect {name_or_path}: {error}") from error


def is_changed(name_or_path: str) -> bool:
    """Whether its files say something else by now than when this process has loaded it. Raises ValueError as `load_dialect`."""
    try:
        return _read(name_or_path) != load_dialect(name_or_path).layout
    except (OSError, KeyError, ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"dialect {name_or_path}: {error}") from error


def _read(name_or_path: str) -> Layout:
    path = _locate(name_or_path, Path())
    if path.suffix == ".xml":
        return read_packager(path.read_bytes())
    return msgspec.convert(_merged(path, 8), DialectFile, strict=False).layout()


def shipped_dialects() -> list[str]:
    """The names of complete shipped dialects (the base tables are none)."""
    return sorted(path.stem for path in SHIPPED.glob("iso*.toml"))


def _locate(name: str, folder: Path) -> Path:
    shipped = SHIPPED / f"{name}.toml"
    return shipped if "/" not in name and shipped.is_file() else folder / name


def _merged(path: Path, depth: int) -> dict[str, Any]:
    """The file's tables over its base's; `depth` bounds a chain of bases that closes on itself."""
    if not depth:
        raise ValueError(f"{path}: too many bases, one of another")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    base = tables.pop("base", None)
    if base is None:
        return tables
    return _over(_merged(_locate(str(base), path.parent), depth - 1), tables)


def _over(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
