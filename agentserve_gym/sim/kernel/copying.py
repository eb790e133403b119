"""How snapshots and pickle take the kernel's objects apart."""

from __future__ import annotations

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
