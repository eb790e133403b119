"""How snapshots and pickle take the kernel's objects apart."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque

from mypy_extensions import mypyc_attr

_fields: dict[type, tuple[str, ...]] = {}


def fields_of(cls: type) -> tuple[str, ...]:
    """The attributes that a class and its bases declare: by slots, or by compilation."""
    found = _fields.get(cls)
    if found is None:
        names: list[str] = []
        for base in reversed(cls.__mro__):
            content = base.__dict__
            declared = content.get("__mypyc_attrs__", content.get("__slots__", ()))
            names += [name for name in declared if name not in ("__dict__", "__weakref__")]
        found = _fields[cls] = tuple(names)
    return found


@mypyc_attr(allow_interpreted_subclasses=True, serializable=True)
class Copyable:
    """Base of everything in the kernel that changes over time.

    ``copy.deepcopy`` and pickle take such an object apart by its attributes and put it together
    without calling ``__init__``, compiled as well as interpreted, also where an interpreted class
    extends a compiled one. A copy of a compiled class's bound method would stay bound to the
    original, so no attribute holds one: events and callbacks are objects.
    """

    __slots__ = ()

    def __getstate__(self) -> dict[str, object]:
        state: dict[str, object] = {name: getattr(self, name) for name in fields_of(type(self))}
        state.update(getattr(self, "__dict__", {}))
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)  # frozen ones too

    def __deepcopy__(self, memo: dict[int, object]) -> object:
        """As ``copy.deepcopy`` would by itself, in a third of the time."""
        cls = type(self)
        twin = cls.__new__(cls)
        memo[id(self)] = twin
        for name in fields_of(cls):
            object.__setattr__(twin, name, _duplicate(getattr(self, name), memo))
        for name, value in getattr(self, "__dict__", {}).items():
            object.__setattr__(twin, name, _duplicate(value, memo))
        return twin


_ATOMS: set[type] = {type(None), bool, int, float, str, bytes}


def _duplicate(value: object, memo: dict[int, object]) -> object:
    """A deep copy of whatever an attribute holds."""
    cls = type(value)
    if cls in _ATOMS:
        return value
    found = memo.get(id(value))
    if found is not None:
        return found
    if isinstance(value, Copyable):
        return value.__deepcopy__(memo)
    if cls is list:
        return _list(value, memo)
    if cls is dict or cls is OrderedDict:
        return _mapping(value, memo)
    if cls is tuple:
        return _tuple(value, memo)
    if cls is deque:
        return _deque(value, memo)
    return copy.deepcopy(value, memo)


def _list(value: object, memo: dict[int, object]) -> object:
    assert isinstance(value, list)
    twin: list[object] = []
    memo[id(value)] = twin
    twin += [item if type(item) in _ATOMS else _duplicate(item, memo) for item in value]
    return twin


def _mapping(value: object, memo: dict[int, object]) -> object:
    assert isinstance(value, dict)
    twin: dict[object, object] = OrderedDict() if type(value) is OrderedDict else {}
    memo[id(value)] = twin
    for key, item in value.items():
        twin[_duplicate(key, memo)] = item if type(item) in _ATOMS else _duplicate(item, memo)
    return twin


def _tuple(value: object, memo: dict[int, object]) -> object:
    """Itself where nothing in it needs a copy, as ``copy.deepcopy`` has it.

    It is not noted in ``memo``: a tuple that a compiled attribute holds unpacked is made as it is
    read, and another object may have its identity later.
    """
    assert isinstance(value, tuple)
    items = [item if type(item) in _ATOMS else _duplicate(item, memo) for item in value]
    for item, twin in zip(value, items, strict=True):
        if item is not twin:
            return tuple(items)
    return value


def _deque(value: object, memo: dict[int, object]) -> object:
    assert isinstance(value, deque)
    twin: deque[object] = deque(maxlen=value.maxlen)
    memo[id(value)] = twin
    for item in value:
        twin.append(item if type(item) in _ATOMS else _duplicate(item, memo))
    return twin
