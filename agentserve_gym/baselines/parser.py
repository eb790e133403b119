"""From a name to a policy: ``parse_policy("dynamo(overlap=1.0)+continuum+plas")``.

Parts are joined by ``+`` in any order; each is a registered name, a bundle, an entry point of the
group ``agentserve_gym.policies``, or a class written ``package.module:ClassName``. Parts left out
are session affinity, LRU, no admission control, and first come, first served (or the order that
the residency's authors use with it). Of a bundle some families can be taken alone:
``learned(routing)+continuum``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any

from agentserve_gym.baselines.custom import WholePolicy
from agentserve_gym.baselines.lookahead.policy import Clairvoyant, Lookahead, Planner
from agentserve_gym.baselines.lookahead.settings import (
    ClairvoyantSettings,
    LookaheadSettings,
    Settings,
)
from agentserve_gym.baselines.parts import Admission, Part, Residency, Routing, Scheduling
from agentserve_gym.baselines.policy import ComposedPolicy, NamedPolicy
from agentserve_gym.baselines.registry import (
    PolicyInfo,
    bundle_info,
    known_bundles,
    known_parts,
    part_info,
)
from agentserve_gym.messages import did_you_mean, shown, unknown

ENTRY_POINTS = "agentserve_gym.policies"
DEFAULTS = {"routing": "affinity", "residency": "lru", "admission": "none"}
DEFAULT_BASE = "lmetric+continuum_paper"
PLANNERS: dict[str, type[Settings]] = {
    settings.name: settings for settings in (LookaheadSettings, ClairvoyantSettings)
}
_PART = re.compile(r"\s*([\w.:-]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_policy(text: str) -> NamedPolicy:
    """A fresh policy from its name.

    Raises:
        ValueError: for an unknown part (with the nearest valid name), two parts of one family, or
            a bad parameter (naming parameter, value and what is allowed).
    """
    pieces = _split(text, "+")
    bundled: dict[str, Part] = {}
    chosen: dict[str, Part] = {}
    for piece in pieces:
        name, words, given = _read_piece(piece, text)
        if name in known_bundles():
            parts = _bundle_parts(name, given)
            for part in _of_families(name, parts, words):
                _add(chosen if words else bundled, part)
            continue
        if words:
            raise ValueError(f"{name}: cannot read {words[0]!r}; write parameter=value")
        made = _make(name, given)
        if isinstance(made, Part):
            _add(chosen, made)
        elif len(pieces) > 1:
            raise ValueError(f"policy {text!r}: {name} is a whole policy and combines with no part")
        else:
            return made
    return _compose({**bundled, **chosen})


def list_policies() -> list[PolicyInfo]:
    """Every part, bundle and entry point, family by family."""
    listed = [part_info(part) for part in known_parts().values()]
    listed += [bundle_info(bundle) for bundle in known_bundles().values()]
    listed += [_planner_info(settings) for settings in PLANNERS.values()]
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        listed.append(
            PolicyInfo(point.name, "user", f"entry point {point.value}", "user", {}, False)
        )
    return listed


def _bundle_parts(bundle: str, given: dict[str, Any]) -> list[Part]:
    """The parts of a bundle; ``given`` are parameters that all of them have.

    Raises:
        ValueError: for a parameter that not all of them have.
    """
    named = known_bundles()[bundle].parts
    parts: list[Part] = []
    for piece in _split(named, "+"):
        name, _, own = _read_piece(piece, named)
        part = known_parts()[name]
        if any(key not in {parameter.name for parameter in fields(part)} for key in given):
            raise ValueError(
                f"{bundle}: takes no parameters, got {', '.join(given)}; its parts do: {named}"
            )
        made = _make(name, {**own, **given})
        assert isinstance(made, Part)
        parts.append(made)
    return parts


def _of_families(bundle: str, parts: list[Part], families: list[str]) -> list[Part]:
    """Those of the named families; all where none is named.

    Raises:
        ValueError: for a family that the bundle has no part of.
    """
    by_family = {part.family: part for part in parts}
    for family in families:
        if family not in by_family:
            raise ValueError(f"{bundle}: {unknown('family', family, list(by_family))}")
    return [by_family[family] for family in families] if families else parts


def _add(parts: dict[str, Part], part: Part) -> None:
    other = parts.get(part.family)
    if other is not None:
        raise ValueError(
            f"{other.name!r} and {part.name!r} are both {part.family} parts; name one of a family"
        )
    parts[part.family] = part


def _compose(parts: dict[str, Part]) -> ComposedPolicy:
    for family, name in DEFAULTS.items():
        if family not in parts:
            parts[family] = known_parts()[name]()
    residency = parts["residency"]
    assert isinstance(residency, Residency)
    if "scheduling" not in parts:
        parts["scheduling"] = known_parts()[residency.order]()
    routing, admission, scheduling = parts["routing"], parts["admission"], parts["scheduling"]
    assert isinstance(routing, Routing)
    assert isinstance(admission, Admission)
    assert isinstance(scheduling, Scheduling)
    return ComposedPolicy(routing, residency, admission, scheduling)


# --- policies that look ahead --------------------------------------------------------------------


def _plan(name: str, given: dict[str, Any]) -> Planner:
    """A planner with its base policy, which ``base`` names."""
    base = parse_policy(str(given.pop("base", DEFAULT_BASE)))
    settings = PLANNERS[name]
    known = {parameter.name: parameter.default for parameter in fields(settings)}
    for parameter in given:
        if parameter not in known:
            raise ValueError(_unknown_parameter(name, parameter, ["base", *known]))
    made = settings(**{key: _as_default(value, known[key]) for key, value in given.items()})
    if isinstance(made, LookaheadSettings):
        return Lookahead(base, made)
    assert isinstance(made, ClairvoyantSettings)
    return Clairvoyant(base, made)


def _planner_info(settings: type[Settings]) -> PolicyInfo:
    parameters = {parameter.name: parameter.default for parameter in fields(settings)}
    oracle = settings is ClairvoyantSettings
    return PolicyInfo(
        settings.name,
        "look-ahead",
        settings.rule,
        settings.source,
        {"base": DEFAULT_BASE, **parameters},
        oracle,
        ("considered", "deviated", "simulated"),
    )


# --- one part ------------------------------------------------------------------------------------


def _make(name: str, given: dict[str, Any]) -> Part | NamedPolicy:
    if name in PLANNERS:
        return _plan(name, given)
    part = known_parts().get(name)
    if part is None:
        found = _load_user_class(name)
        if not (isinstance(found, type) and issubclass(found, Part)):
            return WholePolicy(name, found, given)
        part = found
        if not part.name:
            part.name = name
    known = {parameter.name: parameter for parameter in fields(part)}
    for parameter in given:
        if parameter not in known:
            raise ValueError(_unknown_parameter(name, parameter, list(known)))
    values = {key: _as_default(value, known[key].default) for key, value in given.items()}
    return part(**values)


def _as_default(value: Any, default: Any) -> Any:
    """A whole number written for a real parameter is that real number."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _load_user_class(name: str) -> Callable[..., Any]:
    points = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    if name not in points and ":" not in name:
        raise ValueError(
            _unknown_part(name, [*known_parts(), *known_bundles(), *PLANNERS, *points])
        )
    where = f"policy {name!r}" + (f", entry point {points[name]!r}" if name in points else "")
    module_name, _, class_name = points.get(name, name).partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises
        raise ValueError(
            f"{where}: cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None) if class_name else None
    if not callable(found):
        raise ValueError(f"{where}: {module_name!r} has no class {class_name!r}")
    return found  # type: ignore[no-any-return]


def _unknown_part(name: str, known: list[str]) -> str:
    hint = did_you_mean(name, known) or ";"
    return (
        f"unknown policy part {shown(name)}{hint} allowed: what `agentserve policies` lists, or a "
        "class as package.module:ClassName"
    )


def _unknown_parameter(part: str, parameter: str, known: list[str]) -> str:
    return f"{part}: {unknown('parameter', parameter, known)}"


# --- text ----------------------------------------------------------------------------------------


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside parentheses."""
    pieces, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == separator and depth == 0:
            pieces.append(text[start:position])
            start = position + 1
    pieces.append(text[start:])
    if depth:
        raise ValueError(f"policy {text!r}: parentheses do not match")
    return pieces


def _read_piece(piece: str, text: str) -> tuple[str, list[str], dict[str, Any]]:
    """A name, the words and the parameters in its parentheses."""
    match = _PART.fullmatch(piece)
    if match is None:
        raise ValueError(
            f"policy {text!r}: cannot read {piece!r}; write name or name(parameter=value)"
        )
    name, inside = match.group(1), match.group(2)
    words: list[str] = []
    given: dict[str, Any] = {}
    for item in _split(inside, ",") if inside and inside.strip() else ():
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals and key.isidentifier():
            words.append(key)
            continue
        if not equals or not key or not value.strip():
            raise ValueError(f"{name}: cannot read {item.strip()!r}; write parameter=value")
        if key in given:
            raise ValueError(f"{name}: {key} is given twice")
        given[key] = _value(value.strip())
    return name, words, given


def _value(text: str) -> Any:
    """A number, true or false, or a word."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
