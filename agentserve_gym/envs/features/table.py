"""The table of features: to add one, add its entry; nothing else depends on order or number.

An entry is a ``Feature``: name, what it is, the value at a ``Moment``, and a scale. Those of the
groups ``decision``, ``program`` and ``tools`` are 0 when nothing is asked, without being computed.
The values of an instance's row are columns: one number per instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from operator import add, mul, truediv

from agentserve_gym.envs.features.feature import Column, Feature, OfCalls, Raw, Single, Source
from agentserve_gym.envs.features.instances import REFERENCE_PREFILL_TOKENS, InstanceColumns
from agentserve_gym.hardware.pricing.timing import BatchStep
from agentserve_gym.sim.kernel.programs import QUEUE

_REFERENCE_DECODE = BatchStep(
    decode_count=32,
    decode_context_tokens=32 * 8192,
    decode_max_context_tokens=8192,
    sampled_count=32,
)

# --- scales --------------------------------------------------------------------------------------


def _flag(name: str, text: str, value: Callable[[Source], Raw]) -> Feature[Source, Raw]:
    return Feature(name, "flag", text, value)


def _share(
    name: str, text: str, value: Callable[[Source], Raw], full: float = 1.0, symbol: str = ""
) -> Feature[Source, Raw]:
    return Feature(name, "share", text, value, symbol, full=full)


def _count(
    name: str,
    text: str,
    value: Callable[[Source], Raw],
    full: float = 256.0,
    symbol: str = "turns",
) -> Feature[Source, Raw]:
    return Feature(name, "log", text, value, symbol, 1.0, full)


def _tokens(
    name: str,
    text: str,
    value: Callable[[Source], Raw],
    full: float = 2.0**18,
    unit: float = 256.0,
) -> Feature[Source, Raw]:
    return Feature(name, "log", text, value, "tokens", unit, full)


def _wait(name: str, text: str, value: Callable[[Source], Raw]) -> Feature[Source, Raw]:
    """Seconds of waiting, of tools or of a program's life."""
    return Feature(name, "log", text, value, "s", 0.1, 1000.0)


def _work(name: str, text: str, value: Callable[[Source], Raw]) -> Feature[Source, Raw]:
    """Seconds of work: a prefill or a transfer, hundredths of a second to a minute."""
    return Feature(name, "log", text, value, "s", 0.01, 60.0)


# --- what occurs once ----------------------------------------------------------------------------

DECISION: tuple[Single, ...] = (
    _flag("route", "a turn is ready: the question is where it runs", lambda m: m.routing),
    _flag("placement", "a tool gap began: the question is where the KV waits", lambda m: m.placing),
    _flag("may_hold", "the turn may be held", lambda m: m.may_hold),
    _count("offers", "how often this turn was offered before", lambda m: m.offers, 64.0, "offers"),
    _wait("wait_s", "time since this turn was ready (0 at a placement)", lambda m: m.wait_s),
)

PROGRAM: tuple[Single, ...] = (
    _count("turns_done", "turns finished", lambda m: m.program.turns_done),
    _tokens(
        "context_tokens",
        "length of the chain after the last turn",
        lambda m: m.program.context_tokens,
    ),
    _tokens("prompt_tokens", "prompt of this turn (0 at a placement)", lambda m: m.prompt_tokens),
    _tokens(
        "new_tokens",
        "prompt tokens never computed before (0 at a placement)",
        lambda m: m.new_tokens,
        unit=64.0,
    ),
    _tokens(
        "generated_tokens",
        "tokens generated so far",
        lambda m: m.program.generated_tokens,
        unit=64.0,
    ),
    _tokens(
        "mean_output_tokens",
        "tokens generated per finished turn",
        lambda m: _over(m.program.generated_tokens, m.program.turns_done),
        8192.0,
        16.0,
    ),
    _wait("elapsed_s", "time since arrival", lambda m: m.elapsed_s),
    _wait(
        "attained_service_s",
        "prefill and decode time so far",
        lambda m: m.program.attained_service_s,
    ),
    _share(
        "queue_share",
        "share of its life spent in queues",
        lambda m: _over(m.program.phase_s[QUEUE], m.elapsed_s),
    ),
    _count("gaps", "finished gaps", lambda m: m.program.gaps, symbol="gaps"),
    _wait(
        "mean_gap_s",
        "mean of its finished gaps",
        lambda m: _over(m.program.gap_total_s, m.program.gaps),
    ),
    _wait("last_gap_s", "its last finished gap", lambda m: m.program.last_gap_s),
    _flag("subagent", "it is a sub-agent", lambda m: m.program.parent is not None),
    _flag(
        "started",
        "it has finished a turn, so it has a home instance",
        lambda m: m.program.home >= 0,
    ),
    _flag(
        "pinned",
        "its KV is pinned",
        lambda m: m.program.pinned_at >= 0 and m.cluster.is_pinned(m.program),
    ),
    _work(
        "recompute_s",
        "time to compute its whole context anew on its idle home (0 at a route)",
        lambda m: m.recompute_s() if m.placing else 0.0,
    ),
)

GAP: tuple[Single, ...] = (
    _flag("user", "the gap waits for a person", lambda m: m.program.gap_kind == "user"),
    _count(
        "calls",
        "parallel tool calls in the gap",
        lambda m: len(m.program.gap_tool_kinds),
        16.0,
        "calls",
    ),
)

KIND: tuple[OfCalls, ...] = (
    _flag(
        "known", "some call of its slowest tool kind has completed", lambda calls: calls.count > 0
    ),
    _count("count", "completed calls of that kind", lambda calls: calls.count, 1000.0, "calls"),
    _wait("mean_s", "their mean duration", lambda calls: calls.mean_s),
    _wait("ema_s", "their exponential average (weight 0.2)", lambda calls: calls.ema_s),
    _wait(
        "median_s",
        "exp of the exponential average of log durations",
        lambda calls: calls.median_s,
    ),
    _share(
        "log_sigma",
        "standard deviation of log durations",
        lambda calls: calls.log_sigma,
        3.0,
        "nepers",
    ),
)

OVERALL: tuple[OfCalls, ...] = (
    _wait("overall_mean_s", "mean duration of all completed calls", lambda calls: calls.mean_s),
    _wait("overall_ema_s", "their exponential average", lambda calls: calls.ema_s),
)

GLOBAL: tuple[Single, ...] = (
    Feature("time_s", "log", "simulated time", lambda m: m.cluster.now_s, "s", 1.0, 100_000.0),
    _count(
        "live_programs",
        "programs and sub-agents that are not done",
        lambda m: m.cluster.live_programs,
        1024.0,
        "programs",
    ),
    _count(
        "gap_programs",
        "of them, in a tool gap or waiting for one",
        lambda m: max(
            m.cluster.live_programs
            - sum(m.instances.sent_turns)
            - m.cluster.held_turns
            - m.routing,
            0,
        ),
        1024.0,
        "programs",
    ),
    _count(
        "held_turns",
        "turns held back, this one aside",
        lambda m: m.cluster.held_turns,
        1024.0,
    ),
    _count(
        "sent_turns",
        "turns sent to instances and not finished",
        lambda m: sum(m.instances.sent_turns),
        1024.0,
    ),
    _count(
        "queued_turns",
        "turns in instances' queues",
        lambda m: sum(m.instances.queued_turns),
        1024.0,
    ),
    _share(
        "working_set",
        "contexts of live programs over the KV pools of all instances",
        lambda m: m.cluster.live_context_tokens / m.instances.pool_tokens,
        4.0,
    ),
    _share(
        "used_share",
        "share of all KV pools in use (running, loading, pinned, moving)",
        lambda m: (
            1.0
            - (sum(m.instances.free_blocks) + sum(m.instances.cached_blocks))
            * (1.0 / m.instances.pool_blocks)
        ),
    ),
    _share(
        "cached_share",
        "share of all KV pools that is cached and reclaimable",
        lambda m: sum(m.instances.cached_blocks) * (1.0 / m.instances.pool_blocks),
    ),
)

# --- rows of instances ---------------------------------------------------------------------------

INSTANCE: tuple[Column, ...] = (
    _flag(
        "home",
        "the program's last turn ran here",
        lambda m: m.instances.homes[m.home],
    ),
    _share(
        "hit_share",
        "share of the prompt (at a placement: context) cached in its HBM",
        lambda m: _scaled(m.instances.hit_tokens, m.per_token),
    ),
    _tokens(
        "uncached_tokens",
        "prompt (context) tokens not cached in its HBM",
        lambda m: m.instances.missing_tokens,
    ),
    _work(
        "recompute_s",
        "time to the first token here if idle, recomputing (0 at a placement)",
        lambda m: m.instances.recompute_s,
    ),
    _work(
        "restore_s",
        "the same, with the soonest load if one is sooner (0 at a placement)",
        lambda m: m.instances.restore_s,
    ),
    _work(
        "backlog_s",
        "time to prefill its backlog, alone and without history",
        lambda m: map(mul, m.instances.backlog_tokens, m.instances.backlog_token_s),
    ),
    _share(
        "need_share",
        "blocks that the uncached part needs over free and cached blocks",
        lambda m: _needs(m.instances),
    ),
    _count(
        "sent_turns",
        "turns sent and not finished (known without delay)",
        lambda m: m.instances.sent_turns,
    ),
    _count("queued_turns", "turns in its queue", lambda m: m.instances.queued_turns),
    _count("loading_turns", "turns whose KV is on its way", lambda m: m.instances.loading_turns),
    _count("prefilling_turns", "turns that prefill", lambda m: m.instances.prefilling_turns),
    _count("decoding_turns", "turns that decode", lambda m: m.instances.decoding_turns),
    _share(
        "batch_share",
        "running turns over the batch limit",
        lambda m: map(
            truediv,
            map(add, m.instances.prefilling_turns, m.instances.decoding_turns),
            m.instances.max_num_seqs,
        ),
    ),
    _tokens(
        "backlog_tokens",
        "prompt tokens to prefill, in queue and batch",
        lambda m: m.instances.backlog_tokens,
    ),
    _tokens(
        "batch_context_tokens",
        "sum of the contexts of decoding turns",
        lambda m: m.instances.context_tokens,
        2.0**21,
        1024.0,
    ),
    _share(
        "free_share",
        "share of the KV pool that is free",
        lambda m: map(truediv, m.instances.free_blocks, m.instances.kv_blocks),
    ),
    _share(
        "cached_share",
        "share that is cached and reclaimable",
        lambda m: map(truediv, m.instances.cached_blocks, m.instances.kv_blocks),
    ),
    _share(
        "pinned_share",
        "share that is pinned",
        lambda m: map(truediv, m.instances.pinned_blocks, m.instances.kv_blocks),
    ),
)
"""What changes of an instance within an episode."""

STATIC: tuple[Column, ...] = (
    _flag(
        "present",
        "the instance exists; 0 in padding",
        lambda m: [True for _ in m.instances.views],
    ),
    _tokens(
        "pool_tokens",
        "size of its KV pool",
        lambda m: [view.kv_blocks * view.block_size_tokens for view in m.instances.views],
        2.0**23,
        4096.0,
    ),
    _work(
        "prefill_8k_s",
        "time to prefill 8192 tokens alone",
        lambda m: [time_s(REFERENCE_PREFILL_TOKENS, 0) for time_s in m.instances.prefill_s],
    ),
    Feature(
        "decode_step_s",
        "log",
        "time of a decode step, 32 turns of 8192 tokens",
        lambda m: [view.latency.step_s(_REFERENCE_DECODE) for view in m.instances.views],
        "s",
        1e-3,
        1.0,
    ),
)
"""What never does."""


# --- what there is one of for each lower tier or pin TTL -----------------------------------------


def program_tier(number: int, tier: str) -> tuple[Single, ...]:
    """What the program group says of a lower tier, the ``number``-th of ``m.instances.tiers``."""
    return (
        _work(
            f"{tier}_offload_s",
            f"time to offload to {tier.upper()} what is not there yet (0 at a route)",
            lambda m: m.offload_s(number) if m.placing else 0.0,
        ),
    )


def global_tier(number: int, tier: str) -> tuple[Single, ...]:
    """What the global group says of a lower tier."""
    return (
        _share(
            f"{tier}_used",
            f"share of {tier.upper()} in use, mean over instances",
            lambda m: m.instances.tiers[number].mean_used,
        ),
    )


def instance_tier(number: int, tier: str) -> tuple[Column, ...]:
    """What an instance's row says of a lower tier and changes within an episode."""
    return (
        _share(
            f"{tier}_share",
            f"share of the prompt (context) in {tier.upper()}",
            lambda m: _scaled(m.instances.tiers[number].tokens, m.per_token),
        ),
        _share(
            f"{tier}_used",
            f"share of its {tier.upper()} in use",
            lambda m: m.instances.tiers[number].used,
        ),
    )


def static_tier(number: int, tier: str) -> tuple[Column, ...]:  # noqa: ARG001
    """What an instance's row says of a lower tier and never changes."""
    return (
        _flag(
            f"has_{tier}",
            f"it reaches {tier.upper()}",
            lambda m: [m.cluster.reaches(i, tier) for i in m.instances.numbers],
        ),
    )


def kind_ttl(number: int, ttl_s: float) -> tuple[OfCalls, ...]:
    """What there is of a kind's calls for a pin TTL, the ``number``-th."""
    return (
        _share(
            f"within_ttl_{number}",
            f"share of its last 100 calls within pin TTL {number} ({ttl_s:g} s)",
            lambda calls: calls.shares_within[number],
        ),
    )


def overall_ttl(number: int, ttl_s: float) -> tuple[OfCalls, ...]:
    """What there is of all calls for a pin TTL."""
    return (
        _share(
            f"overall_within_ttl_{number}",
            f"the same over all kinds, pin TTL {number} ({ttl_s:g} s)",
            lambda calls: calls.shares_within[number],
        ),
    )


# --- values that take more than a line -----------------------------------------------------------


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _scaled(column: Iterable[float], factor: float) -> Iterable[float]:
    return map(mul, column, repeat(factor))


def _needs(rows: InstanceColumns) -> Iterable[float]:
    """Without room, 1 where anything is needed."""
    room_blocks = map(add, rows.free_blocks, rows.cached_blocks)
    room_tokens = [blocks * rows.block_size_tokens for blocks in room_blocks]
    if 0 not in room_tokens:
        return map(truediv, rows.missing_tokens, room_tokens)
    return [
        missing / room if room else float(missing > 0)
        for missing, room in zip(rows.missing_tokens, room_tokens, strict=True)
    ]
