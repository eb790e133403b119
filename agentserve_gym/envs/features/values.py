"""The raw number of every feature, in the order of the layout.

Written by ``python -m tools.feature_values`` from the formulas in ``table``; change those.
"""

from __future__ import annotations

from agentserve_gym.envs.features.moment import Moment


def add_asked(moment: Moment, values: list[float]) -> None:
    """Add what a decision asks about."""
    cluster = moment.cluster
    elapsed_s = moment.elapsed_s
    may_hold = moment.may_hold
    new_tokens = moment.new_tokens
    offers = moment.offers
    overall = moment.overall
    placing = moment.placing
    program = moment.program
    prompt_tokens = moment.prompt_tokens
    queue_s = moment.queue_s
    routing = moment.routing
    since_gap_began_s = moment.since_gap_began_s
    tool = moment.tool
    wait_s = moment.wait_s
    values += [
        routing,
        placing,
        may_hold,
        offers,
        wait_s,
        since_gap_began_s > 0.0,
        since_gap_began_s,
        program.turns_done,
        program.context_tokens,
        prompt_tokens,
        new_tokens,
        program.generated_tokens,
        program.generated_tokens / program.turns_done if program.turns_done else 0.0,
        elapsed_s,
        program.attained_service_s,
        queue_s / elapsed_s if elapsed_s > 0.0 else 0.0,
        program.gaps,
        program.gap_total_s / program.gaps if program.gaps else 0.0,
        program.last_gap_s,
        program.parent is not None,
        program.home >= 0,
        program.pinned_at >= 0 and cluster.is_pinned(program),
        moment.context_recompute_s() if placing else 0.0,
    ]
    for tier in moment.tiers:
        values += [moment.offload_s(tier) if placing else 0.0]
    values += [
        program.gap_kind == "user",
        len(program.gap_tool_kinds),
        tool.count > 0,
        tool.count,
        tool.mean_s,
        tool.ema_s,
        tool.median_s,
        tool.log_sigma,
    ]
    for ttl in range(len(moment.ttls_s)):
        values += [tool.shares_within[ttl]]
    values += [overall.mean_s, overall.ema_s]
    for ttl in range(len(moment.ttls_s)):
        values += [overall.shares_within[ttl]]


def add_always(moment: Moment, values: list[float]) -> None:
    """Add what there is at every moment."""
    cluster = moment.cluster
    instances = moment.instances
    routing = moment.routing
    values += [
        cluster.now_s,
        cluster.live_programs,
        max(cluster.live_programs - instances.total_sent_turns - cluster.held_turns - routing, 0),
        cluster.held_turns,
        instances.total_sent_turns,
        instances.total_queued_turns,
        cluster.live_context_tokens / instances.pool_tokens,
        1.0
        - (instances.total_free_blocks + instances.total_cached_blocks)
        * (1.0 / instances.pool_blocks),
        instances.total_cached_blocks * (1.0 / instances.pool_blocks),
    ]
    for tier in moment.tiers:
        values += [tier.mean_used]


def add_rows(moment: Moment, values: list[float]) -> None:
    """Add what changes of each instance."""
    home = moment.home
    per_token = moment.per_token
    instances = moment.instances
    backlog_token_s = instances.backlog_token_s
    hit_tokens = instances.hit_tokens
    kv_blocks = instances.kv_blocks
    max_num_seqs = instances.max_num_seqs
    missing_tokens = instances.missing_tokens
    recompute_s = instances.recompute_s
    restore_s = instances.restore_s
    sent_turns = instances.sent_turns
    view = instances.view
    for index in range(len(instances.view)):
        (
            queued_turns,
            loading_turns,
            prefilling_turns,
            decoding_turns,
            _,
            prefill_backlog_tokens,
            context_tokens,
            free_blocks,
            cached_blocks,
            pinned_blocks,
        ) = instances.load[index]
        values += [
            index == home,
            hit_tokens[index] * per_token,
            missing_tokens[index],
            recompute_s[index],
            restore_s[index],
            prefill_backlog_tokens * backlog_token_s[index],
            missing_tokens[index] / ((free_blocks + cached_blocks) * view[index].block_size_tokens)
            if free_blocks or cached_blocks
            else missing_tokens[index] > 0,
            sent_turns[index],
            queued_turns,
            loading_turns,
            prefilling_turns,
            decoding_turns,
            (prefilling_turns + decoding_turns) / max_num_seqs[index],
            prefill_backlog_tokens,
            context_tokens,
            free_blocks / kv_blocks[index],
            cached_blocks / kv_blocks[index],
            pinned_blocks / kv_blocks[index],
        ]
        for tier in moment.tiers:
            values += [tier.tokens[index] * per_token, tier.used[index]]


def add_static_rows(moment: Moment, values: list[float]) -> None:
    """Add what never changes of each."""
    cluster = moment.cluster
    instances = moment.instances
    decode_step_s = instances.decode_step_s
    kv_blocks = instances.kv_blocks
    prefill_8k_s = instances.prefill_8k_s
    view = instances.view
    for index in range(len(instances.view)):
        values += [
            1.0,
            kv_blocks[index] * view[index].block_size_tokens,
            prefill_8k_s[index],
            decode_step_s[index],
        ]
        for tier in moment.tiers:
            values += [cluster.reaches(index, tier.name)]
