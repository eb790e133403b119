"""The table of features: to add one, add its entry; nothing else depends on order or number. Then
``python -m tools.feature_values`` writes ``values`` anew, which computes them.

An entry is a ``Feature``: its name, what it is, its formula and its scale. A formula is a Python
expression. Its names are attributes of a ``Moment``; in a row of an instance they are first of all
fields of its ``Load``, and columns of ``InstanceColumns``, each standing for what it holds of that
instance. Formulas of the groups ``decision``, ``program`` and ``tools`` are 0, without being
computed, when nothing is asked.

There is one feature for each lower tier or pin TTL where an entry says so. Its formula finds the
``TierColumns`` under the name ``tier``, or the number of the TTL under ``ttl``; its name and text
have these in braces.
"""

from __future__ import annotations

from dataclasses import replace

from agentserve_gym.envs.features.feature import Each, Feature

# --- scales --------------------------------------------------------------------------------------


def _flag(name: str, text: str, formula: str) -> Feature:
    return Feature(name, "flag", text, formula)


def _share(name: str, text: str, formula: str, full: float = 1.0, symbol: str = "") -> Feature:
    return Feature(name, "share", text, formula, symbol, full=full)


def _count(
    name: str,
    text: str,
    formula: str,
    full: float = 256.0,
    symbol: str = "turns",
) -> Feature:
    return Feature(name, "log", text, formula, symbol, 1.0, full)


def _tokens(
    name: str,
    text: str,
    formula: str,
    full: float = 2.0**18,
    unit: float = 256.0,
) -> Feature:
    return Feature(name, "log", text, formula, "tokens", unit, full)


def _wait(name: str, text: str, formula: str) -> Feature:
    """Seconds of waiting, of tools or of a program's life."""
    return Feature(name, "log", text, formula, "s", 0.1, 1000.0)


def _work(name: str, text: str, formula: str) -> Feature:
    """Seconds of work: a prefill or a transfer, hundredths of a second to a minute."""
    return Feature(name, "log", text, formula, "s", 0.01, 60.0)


def _each(each: Each, *features: Feature) -> tuple[Feature, ...]:
    """Features that there are for each lower tier or pin TTL."""
    return tuple(replace(feature, each=each) for feature in features)


# --- what occurs once ----------------------------------------------------------------------------

DECISION: tuple[Feature, ...] = (
    _flag("route", "a turn is ready: the question is where it runs", "routing"),
    _flag("placement", "a tool gap began: the question is where the KV waits", "placing"),
    _flag("may_hold", "the turn may be held", "may_hold"),
    _count("offers", "how often this turn was offered before", "offers", 64.0, "offers"),
    _wait("wait_s", "time since this turn was ready (0 at a placement)", "wait_s"),
    _flag("asked_again", "this placement comes up once more", "since_gap_began_s > 0.0"),
    _wait("since_gap_began_s", "time since the gap began (0 at a route)", "since_gap_began_s"),
)

PROGRAM: tuple[Feature, ...] = (
    _count("turns_done", "turns finished", "program.turns_done"),
    _tokens("context_tokens", "length of the chain after the last turn", "program.context_tokens"),
    _tokens("prompt_tokens", "prompt of this turn (0 at a placement)", "prompt_tokens"),
    _tokens(
        "new_tokens",
        "prompt tokens never computed before (0 at a placement)",
        "new_tokens",
        unit=64.0,
    ),
    _tokens("generated_tokens", "tokens generated so far", "program.generated_tokens", unit=64.0),
    _tokens(
        "mean_output_tokens",
        "tokens generated per finished turn",
        "program.generated_tokens / program.turns_done if program.turns_done else 0.0",
        8192.0,
        16.0,
    ),
    _wait("elapsed_s", "time since arrival", "elapsed_s"),
    _wait("attained_service_s", "prefill and decode time so far", "program.attained_service_s"),
    _share(
        "queue_share",
        "share of its life spent in queues",
        "queue_s / elapsed_s if elapsed_s > 0.0 else 0.0",
    ),
    _count("gaps", "finished gaps", "program.gaps", symbol="gaps"),
    _wait(
        "mean_gap_s",
        "mean of its finished gaps",
        "program.gap_total_s / program.gaps if program.gaps else 0.0",
    ),
    _wait("last_gap_s", "its last finished gap", "program.last_gap_s"),
    _flag("subagent", "it is a sub-agent", "program.parent is not None"),
    _flag("started", "it has finished a turn, so it has a home instance", "program.home >= 0"),
    _flag("pinned", "its KV is pinned", "program.pinned_at >= 0 and cluster.is_pinned(program)"),
    _work(
        "recompute_s",
        "time to compute its whole context anew on its idle home (0 at a route)",
        "context_recompute_s() if placing else 0.0",
    ),
    *_each(
        "tier",
        _work(
            "{tier}_offload_s",
            "time to offload to {TIER} what is not there yet (0 at a route)",
            "offload_s(tier) if placing else 0.0",
        ),
    ),
)

TOOLS: tuple[Feature, ...] = (
    _flag("user", "the gap waits for a person", "program.gap_kind == 'user'"),
    _count("calls", "parallel tool calls in the gap", "len(program.gap_tool_kinds)", 16.0, "calls"),
    _flag("known", "some call of its slowest tool kind has completed", "tool.count > 0"),
    _count("count", "completed calls of that kind", "tool.count", 1000.0, "calls"),
    _wait("mean_s", "their mean duration", "tool.mean_s"),
    _wait("ema_s", "their exponential average (weight 0.2)", "tool.ema_s"),
    _wait("median_s", "exp of the exponential average of log durations", "tool.median_s"),
    _share("log_sigma", "standard deviation of log durations", "tool.log_sigma", 3.0, "nepers"),
    *_each(
        "ttl",
        _share(
            "within_ttl_{ttl}",
            "share of its last 100 calls within pin TTL {ttl} ({ttl_s:g} s)",
            "tool.shares_within[ttl]",
        ),
    ),
    _wait("overall_mean_s", "mean duration of all completed calls", "overall.mean_s"),
    _wait("overall_ema_s", "their exponential average", "overall.ema_s"),
    *_each(
        "ttl",
        _share(
            "overall_within_ttl_{ttl}",
            "the same over all kinds, pin TTL {ttl} ({ttl_s:g} s)",
            "overall.shares_within[ttl]",
        ),
    ),
)

GLOBAL: tuple[Feature, ...] = (
    Feature("time_s", "log", "simulated time", "cluster.now_s", "s", 1.0, 100_000.0),
    _count(
        "live_programs",
        "programs and sub-agents that are not done",
        "cluster.live_programs",
        1024.0,
        "programs",
    ),
    _count(
        "gap_programs",
        "of them, in a tool gap or waiting for one",
        "max(cluster.live_programs - instances.total_sent_turns - cluster.held_turns - routing, 0)",
        1024.0,
        "programs",
    ),
    _count("held_turns", "turns held back, this one aside", "cluster.held_turns", 1024.0),
    _count(
        "sent_turns",
        "turns sent to instances and not finished",
        "instances.total_sent_turns",
        1024.0,
    ),
    _count("queued_turns", "turns in instances' queues", "instances.total_queued_turns", 1024.0),
    _share(
        "working_set",
        "contexts of live programs over the KV pools of all instances",
        "cluster.live_context_tokens / instances.pool_tokens",
        4.0,
    ),
    _share(
        "used_share",
        "share of all KV pools in use (running, loading, pinned, moving)",
        "1.0 - (instances.total_free_blocks + instances.total_cached_blocks)"
        " * (1.0 / instances.pool_blocks)",
    ),
    _share(
        "cached_share",
        "share of all KV pools that is cached and reclaimable",
        "instances.total_cached_blocks * (1.0 / instances.pool_blocks)",
    ),
    *_each(
        "tier",
        _share("{tier}_used", "share of {TIER} in use, mean over instances", "tier.mean_used"),
    ),
)

# --- rows of instances ---------------------------------------------------------------------------

INSTANCE: tuple[Feature, ...] = (
    _flag("home", "the program's last turn ran here", "index == home"),
    _share(
        "hit_share",
        "share of the prompt (at a placement: context) cached in its HBM",
        "hit_tokens * per_token",
    ),
    _tokens("uncached_tokens", "prompt (context) tokens not cached in its HBM", "missing_tokens"),
    _work(
        "recompute_s",
        "time to the first token here if idle, recomputing (0 at a placement)",
        "recompute_s",
    ),
    _work(
        "restore_s",
        "the same, with the soonest load if one is sooner (0 at a placement)",
        "restore_s",
    ),
    _work(
        "backlog_s",
        "time to prefill its backlog, alone and without history",
        "prefill_backlog_tokens * backlog_token_s",
    ),
    _share(
        "need_share",
        "blocks that the uncached part needs over free and cached blocks",
        "missing_tokens / ((free_blocks + cached_blocks) * view.block_size_tokens)"
        " if free_blocks or cached_blocks else missing_tokens > 0",
    ),
    _count("sent_turns", "turns sent and not finished (known without delay)", "sent_turns"),
    _count("queued_turns", "turns in its queue", "queued_turns"),
    _count("loading_turns", "turns whose KV is on its way", "loading_turns"),
    _count("prefilling_turns", "turns that prefill", "prefilling_turns"),
    _count("decoding_turns", "turns that decode", "decoding_turns"),
    _share(
        "batch_share",
        "running turns over the batch limit",
        "(prefilling_turns + decoding_turns) / max_num_seqs",
    ),
    _tokens(
        "backlog_tokens",
        "prompt tokens to prefill, in queue and batch",
        "prefill_backlog_tokens",
    ),
    _tokens(
        "batch_context_tokens",
        "sum of the contexts of decoding turns",
        "context_tokens",
        2.0**21,
        1024.0,
    ),
    _share("free_share", "share of the KV pool that is free", "free_blocks / kv_blocks"),
    _share("cached_share", "share that is cached and reclaimable", "cached_blocks / kv_blocks"),
    _share("pinned_share", "share that is pinned", "pinned_blocks / kv_blocks"),
    *_each(
        "tier",
        _share(
            "{tier}_share",
            "share of the prompt (context) in {TIER}",
            "tier.tokens[index] * per_token",
        ),
        _share("{tier}_used", "share of its {TIER} in use", "tier.used[index]"),
    ),
)
"""What changes of an instance within an episode."""

STATIC: tuple[Feature, ...] = (
    _flag("present", "the instance exists; 0 in padding", "1.0"),
    _tokens(
        "pool_tokens",
        "size of its KV pool",
        "kv_blocks * view.block_size_tokens",
        2.0**23,
        4096.0,
    ),
    _work("prefill_8k_s", "time to prefill 8192 tokens alone", "prefill_8k_s"),
    Feature(
        "decode_step_s",
        "log",
        "time of a decode step, 32 turns of 8192 tokens",
        "decode_step_s",
        "s",
        1e-3,
        1.0,
    ),
    *_each(
        "tier",
        _flag("has_{tier}", "it reaches {TIER}", "cluster.reaches(index, tier.name)"),
    ),
)
"""What never does."""
