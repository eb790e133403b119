"""Checks of what callers pass: each raises one line with the argument's name, its value and what is
allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, least: int, besides: str = "") -> int:
    """An integer of at least ``least``; ``besides`` names what else is allowed, in the message."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        value_is_allowed = False
    else:
        value_is_allowed = bool(value >= least)
    if not value_is_allowed:
        allowed = f"{besides} or an" if besides else "an"
        raise ValueError(f"{name} is {value!r}; allowed: {allowed} integer of at least {least}")
    return int(value)


def one_of(name: str, value: Any, allowed: Sequence[str | None]) -> None:
    """One of a few names."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def reset_options(options: Any) -> dict[str, Any]:
    """The options of ``reset`` as a new dictionary; ``None`` has none."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(
            f'options is {options!r}; allowed: None or a mapping such as {{"workload_seed": 4}}'
        )
    return dict(options)


def seed_list(seed: Any, number: int) -> list[int | None]:
    """A seed for each of ``number`` environments: from the first one's, or a list of them."""
    if seed is None:
        return [None] * number
    if isinstance(seed, (list, tuple)) or (isinstance(seed, np.ndarray) and seed.ndim):
        if len(seed) != number:
            raise ValueError(f"seed lists {len(seed)} seeds; {number} are needed")
        return [
            None if one is None else whole_number(f"seed[{index}]", one, 0, "None")
            for index, one in enumerate(seed)
        ]
    first = whole_number("seed", seed, 0, f"None, a list of {number}")
    return [first + index for index in range(number)]
