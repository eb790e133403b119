"""What an observation holds: one table of features, from which layout and documentation follow.

Every feature is a non-negative raw number (seconds, tokens, turns, a share) and is scaled to [0, 1]
by one of three rules, so that a network sees numbers of one size and saturation is explicit:

- ``flag``: 0 or 1;
- ``share``: ``min(x / full, 1)``;
- ``log``: ``min(ln(1 + x / unit) / ln(1 + full / unit), 1)``: nearly linear below ``unit``,
  logarithmic above it, 1 from ``full`` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log1p
from typing import Literal

GROUPS = ("decision", "program", "tools", "global")
"""Groups that occur once, in order; the rows of the instances follow."""

DEFAULT_PIN_TTLS_S = (2.0, 20.0)
DEFAULT_TIERS = ("dram",)

Scale = Literal["flag", "share", "log"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of an observation.

    Attributes:
        name: unique within its group.
        scale: rule from raw number to [0, 1], see the module.
        text: what it is.
        symbol: the raw number's unit, for documentation.
        unit, full: parameters of the rule.
    """

    name: str
    scale: Scale
    text: str
    symbol: str = ""
    unit: float = 1.0
    full: float = 1.0

    def scaled(self, raw: float) -> float:
        """The feature's value for a raw number."""
        if self.scale == "log":
            return min(log1p(raw / self.unit) / log1p(self.full / self.unit), 1.0)
        return min(raw / self.full, 1.0)

    @property
    def rule(self) -> str:
        """The rule in words."""
        if self.scale == "log":
            return f"log, unit {self.unit:g}, full {_plain(self.full)} {self.symbol}"
        if self.scale == "share" and self.full != 1.0:
            return f"share of {_plain(self.full)} {self.symbol}".rstrip()
        return self.scale


def _plain(number: float) -> str:
    """A number without an exponent."""
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


def _flag(name: str, text: str) -> Feature:
    return Feature(name, "flag", text)


def _share(name: str, text: str, full: float = 1.0, symbol: str = "") -> Feature:
    return Feature(name, "share", text, symbol, full=full)


def _count(name: str, text: str, full: float = 256.0, symbol: str = "turns") -> Feature:
    return Feature(name, "log", text, symbol, 1.0, full)


def _tokens(name: str, text: str, full: float = 2.0**18, unit: float = 256.0) -> Feature:
    return Feature(name, "log", text, "tokens", unit, full)


def _wait(name: str, text: str) -> Feature:
    """Seconds of waiting, of tools or of a program's life."""
    return Feature(name, "log", text, "s", 0.1, 1000.0)


def _work(name: str, text: str) -> Feature:
    """Seconds of work: a prefill or a transfer, hundredths of a second to a minute."""
    return Feature(name, "log", text, "s", 0.01, 60.0)


_DECISION = (
    _flag("route", "a turn is ready: the question is where it runs"),
    _flag("placement", "a tool gap began: the question is where the KV waits"),
    _flag("may_hold", "the turn may be held"),
    _count("offers", "how often this turn was offered before", 64.0, "offers"),
    _wait("wait_s", "time since this turn was ready (0 at a placement)"),
)

_PROGRAM = (
    _count("turns_done", "turns finished"),
    _tokens("context_tokens", "length of the chain after the last turn"),
    _tokens("prompt_tokens", "prompt of this turn (0 at a placement)"),
    _tokens("new_tokens", "prompt tokens never computed before (0 at a placement)", unit=64.0),
    _tokens("generated_tokens", "tokens generated so far", unit=64.0),
    _tokens("mean_output_tokens", "tokens generated per finished turn", 8192.0, 16.0),
    _wait("elapsed_s", "time since arrival"),
    _wait("attained_service_s", "prefill and decode time so far"),
    _share("queue_share", "share of its life spent in queues"),
    _count("gaps", "finished gaps", symbol="gaps"),
    _wait("mean_gap_s", "mean of its finished gaps"),
    _wait("last_gap_s", "its last finished gap"),
    _flag("subagent", "it is a sub-agent"),
    _flag("started", "it has finished a turn, so it has a home instance"),
    _flag("pinned", "its KV is pinned"),
    _work("recompute_s", "time to compute its whole context anew on its idle home (0 at a route)"),
)

_TOOLS = (
    _flag("user", "the gap waits for a person"),
    _count("calls", "parallel tool calls in the gap", 16.0, "calls"),
    _flag("known", "some call of its slowest tool kind has completed"),
    _count("count", "completed calls of that kind", 1000.0, "calls"),
    _wait("mean_s", "their mean duration"),
    _wait("ema_s", "their exponential average (weight 0.2)"),
    _wait("median_s", "exp of the exponential average of log durations"),
    _share("log_sigma", "standard deviation of log durations", 3.0, "nepers"),
)

_OVERALL = (
    _wait("overall_mean_s", "mean duration of all completed calls"),
    _wait("overall_ema_s", "their exponential average"),
)

_GLOBAL = (
    Feature("time_s", "log", "simulated time", "s", 1.0, 100_000.0),
    _count("live_programs", "programs and sub-agents that are not done", 1024.0, "programs"),
    _count("gap_programs", "of them, in a tool gap or waiting for one", 1024.0, "programs"),
    _count("held_turns", "turns held back, this one aside", 1024.0),
    _count("sent_turns", "turns sent to instances and not finished", 1024.0),
    _count("queued_turns", "turns in instances' queues", 1024.0),
    _share("working_set", "contexts of live programs over the KV pools of all instances", 4.0),
    _share("used_share", "share of all KV pools in use (running, loading, pinned, moving)"),
    _share("cached_share", "share of all KV pools that is cached and reclaimable"),
)

_INSTANCE = (
    _flag("home", "the program's last turn ran here"),
    _share("hit_share", "share of the prompt (at a placement: context) cached in its HBM"),
    _tokens("uncached_tokens", "prompt (context) tokens not cached in its HBM"),
    _work("recompute_s", "time to the first token here if idle, recomputing (0 at a placement)"),
    _work("restore_s", "the same, with the soonest load if one is sooner (0 at a placement)"),
    _work("backlog_s", "time to prefill its backlog, alone and without history"),
    _share("need_share", "blocks that the uncached part needs over free and cached blocks"),
    _count("sent_turns", "turns sent and not finished (known without delay)"),
    _count("queued_turns", "turns in its queue"),
    _count("loading_turns", "turns whose KV is on its way"),
    _count("prefilling_turns", "turns that prefill"),
    _count("decoding_turns", "turns that decode"),
    _share("batch_share", "running turns over the batch limit"),
    _tokens("backlog_tokens", "prompt tokens to prefill, in queue and batch"),
    _tokens("batch_context_tokens", "sum of the contexts of decoding turns", 2.0**21, 1024.0),
    _share("free_share", "share of the KV pool that is free"),
    _share("cached_share", "share that is cached and reclaimable"),
    _share("pinned_share", "share that is pinned"),
)

_STATIC_INSTANCE = (
    _flag("present", "the instance exists; 0 in padding"),
    _tokens("pool_tokens", "size of its KV pool", 2.0**23, 4096.0),
    _work("prefill_8k_s", "time to prefill 8192 tokens alone"),
    Feature(
        "decode_step_s", "log", "time of a decode step, 32 turns of 8192 tokens", "s", 1e-3, 1.0
    ),
)


def _of_tiers(group: str, tiers: Sequence[str]) -> tuple[Feature, ...]:
    """What a group says of each lower tier: tier by tier, in the order of ``TIER_FEATURES``."""
    return tuple(
        replace(feature, name=feature.name.format(tier), text=feature.text.format(tier.upper()))
        for tier in tiers
        for feature in TIER_FEATURES[group]
    )


TIER_FEATURES = {
    "program": (
        _work("{}_offload_s", "time to offload to {} what is not there yet (0 at a route)"),
    ),
    "global": (_share("{}_used", "share of {} in use, mean over instances"),),
    "instance": (
        _share("{}_share", "share of the prompt (context) in {}"),
        _share("{}_used", "share of its {} in use"),
    ),
    "static": (_flag("has_{}", "it reaches {}"),),
}
"""What each group says of a lower tier, at the group's end."""


def dynamic_instance_features(tiers: Sequence[str]) -> tuple[Feature, ...]:
    """What changes of an instance within an episode: the first part of its row."""
    return _INSTANCE + _of_tiers("instance", tiers)


def static_instance_features(tiers: Sequence[str]) -> tuple[Feature, ...]:
    """What never changes of an instance: the rest of its row."""
    return _STATIC_INSTANCE + _of_tiers("static", tiers)


def single_features(
    pin_ttls_s: Sequence[float], tiers: Sequence[str]
) -> dict[str, tuple[Feature, ...]]:
    """The features that occur once, by group; tools have one pair per pin TTL."""
    within = tuple(
        _share(f"within_ttl_{number}", f"share of its last 100 calls within pin TTL {number}"
               f" ({ttl:g} s)")
        for number, ttl in enumerate(pin_ttls_s)
    )  # fmt: skip
    overall = tuple(
        _share(f"overall_within_ttl_{number}", f"the same over all kinds, pin TTL {number}"
               f" ({ttl:g} s)")
        for number, ttl in enumerate(pin_ttls_s)
    )  # fmt: skip
    return {
        "decision": _DECISION,
        "program": _PROGRAM + _of_tiers("program", tiers),
        "tools": _TOOLS + within + _OVERALL + overall,
        "global": _GLOBAL + _of_tiers("global", tiers),
    }


class ObservationLayout:
    """Where each feature lies in the flat observation.

    Attributes:
        features: every feature in order of the vector.
        size: length of the vector.
        groups: features of each group that occurs once.
        tiers: names of the lower tiers that it has room for.
        dynamic, static: features of an instance that do and do not change within an episode; a
            row has them one after the other.
        max_instances: rows at the end, from ``instances_start`` on.
    """

    def __init__(
        self, max_instances: int, pin_ttls_s: Sequence[float], tiers: Sequence[str]
    ) -> None:
        self.max_instances = max_instances
        self.tiers = tuple(tiers)
        self.groups = single_features(pin_ttls_s, tiers)
        self.dynamic = dynamic_instance_features(tiers)
        self.static = static_instance_features(tiers)
        self.row = self.dynamic + self.static
        single = [feature for group in GROUPS for feature in self.groups[group]]
        self.instances_start = len(single)
        self.features: tuple[Feature, ...] = (*single, *(self.row * max_instances))
        self.size = len(self.features)

    def slices(self) -> dict[str, slice]:
        """Name to slice: every group, ``instances`` as a whole, ``instance_<i>`` as a row, and each
        feature as ``<group>.<feature>`` or ``instance_<i>.<feature>``."""
        found: dict[str, slice] = {}
        start = 0
        for group in GROUPS:
            start = _add_group(found, group, self.groups[group], start)
        found["instances"] = slice(start, self.size)
        for number in range(self.max_instances):
            start = _add_group(found, f"instance_{number}", self.row, start)
        return found


def _add_group(found: dict[str, slice], name: str, features: Sequence[Feature], start: int) -> int:
    stop = start + len(features)
    found[name] = slice(start, stop)
    for offset, feature in enumerate(features):
        found[f"{name}.{feature.name}"] = slice(start + offset, start + offset + 1)
    return stop


def observation_table(
    pin_ttls_s: Sequence[float] = DEFAULT_PIN_TTLS_S, tiers: Sequence[str] = DEFAULT_TIERS
) -> str:
    """Documentation of every feature: name, rule with unit and full scale, meaning."""
    layout = ObservationLayout(1, pin_ttls_s, tiers)
    groups = {**layout.groups, "instance_<i>": layout.row}
    lines: list[str] = []
    for group, features in groups.items():
        lines.append(f"{group}:")
        lines.extend(f"    {f.name} [{f.rule}]: {f.text}" for f in features)
    return "\n".join(lines)
