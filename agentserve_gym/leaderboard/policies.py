"""Which policies may be scored, and what tells one from another: code, weights and parameters."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agentserve_gym.baselines import ComposedPolicy, NamedPolicy, Part, parse_policy
from agentserve_gym.baselines.custom import WholePolicy
from agentserve_gym.baselines.learned.parts import LearnedPart
from agentserve_gym.baselines.learned.weights import about_weights
from agentserve_gym.baselines.lookahead.policy import Planner
from agentserve_gym.baselines.parser import DEFAULTS
from agentserve_gym.leaderboard.submission import Card
from agentserve_gym.leaderboard.timed import Timed

_PACKAGE = __name__.partition(".")[0]
_HANDS_ON = (Part.bind, ComposedPolicy.bind)
"""Inherited by classes that look at no simulation themselves."""
_NOTHING = {*DEFAULTS.values(), "fcfs"}


def require_live_view(policy: NamedPolicy) -> None:
    """Refuse what sees more than a live router does.

    Code from outside must not ask for the simulation; what else it may look at, people read.

    Raises:
        ValueError: naming the policy, with the reason.
    """
    if policy.is_oracle:
        raise ValueError(
            f"policy {policy.name!r} is an oracle: it knows what no live system could; allowed: "
            "policies that decide from what a live router sees"
        )
    for item in _items(policy):
        bind = getattr(type(item), "bind", getattr(item, "bind", None))
        if not _is_ours(type(item)) and bind is not None and bind not in _HANDS_ON:
            raise ValueError(
                f"policy {policy.name!r}: {type(item).__qualname__} has a method bind(simulation), "
                "which shows it more than a live router sees; allowed: policies without it"
            )


def is_shipped(policy: NamedPolicy) -> bool:
    """Whether all of its code and weights come with the package."""
    return all(
        _is_ours(type(item))
        and not isinstance(item, WholePolicy)
        and not (isinstance(item, LearnedPart) and item.weights.endswith(".json"))
        for item in _items(policy)
    )


def make_card(
    text: str,
    *,
    name: str | None = None,
    author: str | None = None,
    description: str | None = None,
    observes: str | None = None,
    training_cost: str | None = None,
) -> Card:
    """The card of a policy, as ``parse_policy`` reads it; the rest is told by people.

    Raises:
        ValueError: if the policy is unknown or not allowed, or of one that does not come with the
            package something is not told.
    """
    policy = parse_policy(text)
    require_live_view(policy)
    if is_shipped(policy):
        author = author or "agentserve-gym"
        description = description or _rules(policy)
        training_cost = training_cost or _training_cost(policy)
    for field, told in (
        ("author", author), ("description", description), ("training-cost", training_cost),
    ):  # fmt: skip
        if not told:
            raise ValueError(
                f"policy {text!r} does not come with the package: --{field} is missing"
            )
    return Card(
        name=name or _name(policy),
        policy=text,
        author=author or "",
        description=description or "",
        sha256=fingerprint(policy),
        observes=observes or _observes(policy),
        training_cost=training_cost or "",
    )


def _name(policy: NamedPolicy) -> str:
    """The policy's; of a model or function its own, without how it is loaded."""
    inner = policy.policy if isinstance(policy, WholePolicy) else policy
    return str(getattr(inner, "name", policy.name)) if _is_ours(type(inner)) else policy.name


def _observes(policy: NamedPolicy) -> str:
    found = (getattr(item, "env_id", None) for item in _items(policy))
    envs = [f"observations of {env_id}" for env_id in found if env_id]
    return envs[0] if envs else "what a live router sees"


def _training_cost(policy: NamedPolicy) -> str:
    names = {item.weights for item in _items(policy) if isinstance(item, LearnedPart)}
    recipes = [about_weights(name).get("recipe", name) for name in sorted(names)]
    return ", ".join(f"agentserve train --recipe {recipe}" for recipe in recipes) or "none"


def _rules(policy: NamedPolicy) -> str:
    """The rules of a policy's parts, each with who published it."""
    parts = [item for item in _items(policy) if isinstance(item, Part)]
    told = [part for part in parts if part.name not in _NOTHING] or parts[:1]
    return "; ".join(f"{part.rule} ({part.source})" for part in told)


def fingerprint(policy: NamedPolicy) -> str:
    """SHA-256 over what a policy is.

    Code from outside counts as the files of the modules that define its classes and functions, and
    weights as the files that its parameters name. Of this package's code the names count: which
    version it is, a submission says besides.
    """
    mark = hashlib.sha256()
    for content in _contents(policy):
        mark.update(hashlib.sha256(content).digest())
    return mark.hexdigest()


def _items(policy: Any) -> Iterator[Any]:
    """A policy and all that it is made of."""
    yield policy
    match policy:
        case Planner():
            yield from _items(policy.base)
        case ComposedPolicy():
            yield from policy.parts
        case WholePolicy() | Timed():
            yield from _items(policy.policy)
        case _ if _is_ours(type(policy)) and hasattr(policy, "baseline"):
            yield from _items(policy.baseline)


def _contents(policy: NamedPolicy) -> Iterator[bytes]:
    for item in _items(policy):
        match item:
            case LearnedPart():
                yield f"{item.family} {item.decides_by.vector()!r}".encode()
            case Part():
                yield str(item).encode()
            case Planner():
                yield item.name.encode()
            case WholePolicy():
                yield _code(item.factory)
                for name, value in sorted(item.parameters.items()):
                    yield name.encode()
                    yield _parameter(value)
        if not _is_ours(type(item)):
            yield _code(type(item))


def _parameter(value: Any) -> bytes:
    """A parameter: the file that it names, the code that it names, or itself."""
    text = str(value)
    if Path(text).is_file():
        return Path(text).read_bytes()
    module = sys.modules.get(text.partition(":")[0]) if ":" in text else None
    return _module_file(module.__name__) if module is not None else text.encode()


def _code(made: Callable[..., Any]) -> bytes:
    """Name of a class or function, and the file of its module if that is not of this package."""
    name = f"{made.__module__}:{getattr(made, '__qualname__', type(made).__qualname__)}".encode()
    return name if _is_ours(made) else name + b"\n" + _module_file(made.__module__)


def _module_file(name: str) -> bytes:
    try:
        return Path(inspect.getfile(sys.modules[name])).read_bytes()
    except (KeyError, TypeError, OSError):
        return b""


def _is_ours(made: Callable[..., Any]) -> bool:
    return str(made.__module__).partition(".")[0] == _PACKAGE
