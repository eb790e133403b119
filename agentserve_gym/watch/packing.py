"""Long columns of numbers as short text, which the page's script unpacks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence

MICROSECONDS = 1_000_000
"""Units of a second in which times are kept."""


def packed(values: Iterable[int]) -> str:
    """Each integer's difference from the one before, zigzag, as variable-length bytes (LEB128) in
    base64: one to four letters each, where a column changes slowly."""
    content = bytearray()
    before = 0
    for value in values:
        change, before = value - before, value
        rest = change * 2 if change >= 0 else -change * 2 - 1
        while rest > 127:
            content.append(rest % 128 + 128)
            rest //= 128
        content.append(rest)
    return b64encode(content).decode("ascii")


def packed_times(times_s: Iterable[float]) -> str:
    """Times as whole microseconds."""
    return packed(round(time_s * MICROSECONDS) for time_s in times_s)


def packed_table(names: Sequence[str], rows: Sequence[Sequence[int]]) -> dict[str, str]:
    """Rows by column."""
    columns: Iterable[Sequence[int]] = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: packed(column) for name, column in zip(names, columns, strict=True)}


class Words:
    """Texts by number, so that each is kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The text's number."""
        return self._numbers.setdefault(text, len(self._numbers))

    def all(self) -> list[str]:
        """Every text, by its number."""
        return list(self._numbers)
