"""The part of the environments' documentation that they share, with the table of features as the
code has it."""

from __future__ import annotations

from textwrap import indent
from typing import TypeVar

from agentserve_gym.envs.features import observation_table

_ROUTES = """\
Routes
    ``3 * instance + queue class``, the class 0 ahead, 1 in order or 2 behind (lower classes of an
    instance's queue go first, each in order of arrival); and as the last number, hold.
    ``env.unwrapped.routes.names`` lists them."""

_PLACEMENTS = """\
Placements
    In order; ``env.unwrapped.placements.names`` lists them:

    ====================================  ==================================================
    keep                                  leave it in HBM under LRU
    pin until return                      at most ``pin_until_return_s`` of the scenario
    pin, for each of its ``pin_ttls_s``   at most so long
    copy to each lower tier (``tiers``)   the copy in HBM keeps its place (write-through)
    move to each lower tier               the copy in HBM is the first to be reclaimed
    prefetch                              back to HBM; there is none without lower tiers
    drop                                  every copy
    ====================================  ==================================================

    A pin that is alive when the program returns lasts until its turn is admitted. After a copy or a
    move the placement may come up once more in the same gap, when loading the context would end
    just as the program is expected back: after the longest of its tool kinds' median durations, if
    each kind has completed 10 calls and the variance of their log durations is at most 1. It is
    asked only if a tier then holds more of the context than HBM, and only there can the context be
    prefetched."""

_SHARED = """\
Observation
    Flat ``Box(0, 1)`` of float32, in the order listed; ``env.unwrapped.observation_layout`` maps
    each group and each ``group.feature`` to its slice. Rows of instances that do not exist (with
    ``max_instances`` above the scenario's) are zero. Scales, raw number x to [0, 1]: ``flag`` 0 or
    1; ``share`` min(x, 1); ``share of F`` min(x / F, 1); ``log, unit U, full F``
    min(ln(1 + x / U) / ln(1 + F / U), 1). The table is that of the default pin TTLs; there is a
    ``within_ttl`` feature for each that a scenario has. Nothing in it depends on what a live router
    could not know: output lengths, gap durations and turns to come stay hidden.

{table}

Reward
    ``jct`` (default): minus the time integral of unfinished programs since the last decision over
    (programs x ``objective.jct_unit_s``); the return is minus mean JCT in that unit. ``slowdown``:
    minus mean slowdown over ``objective.slowdown_unit``. ``slo``: minus the share of turns that
    miss their objective.
Invalid actions
    One inside the action space that the mask excludes falls back to a safe one (home, else of
    the instances that serve the program's model the one with fewest turns; keep) and is counted.
    One outside is a ``ValueError``, and nothing has run.
Episode end
    ``terminated`` when every program is done, ``truncated`` at the scenario's horizon. If no
    decision of the asked kind ever comes, the first step ends the episode whatever the action.
Info
    The same keys, types and shapes at every ``reset`` and ``step``, so that recorders take them.
    ``action_mask`` (int8); ``elapsed_s``, simulated seconds since the last decision (for
    discounting by time); ``seed`` of the workload; ``steps``, ``invalid_actions`` and
    ``asked_again`` (placements that came up once more) of the episode so far. ``metrics``: a
    float64 array, infinite until the episode is over (also where a time limit ends it, which the
    environment does not see) and then the figures of the report, found by name too:
    ``info["metrics"]["mean_jct_s/all"]``, ``dict(info["metrics"])``. The names are those of
    ``agentserve_gym.envs.metric_names()``.
Seeds
    ``reset(seed=s)`` runs exactly workload ``s``; ``reset()`` draws a new one, at least 2^20, so
    small seeds stay unseen; ``reset(options={{"workload_seed": s}})`` runs workload ``s`` once.
Version history
    ``v0``: the first, and the only one so far. Before the package's first release its spaces have
    changed under this number: routes became ``3 * instance + queue class``, and placements got pins
    until return, moves and prefetches; memory tiers and pin times follow the scenario; features
    were added. What changed is in the changelog; models and checkpoints with other spaces are
    refused."""

_Class = TypeVar("_Class", bound=type)


def documented(cls: _Class) -> _Class:
    """Put the shared parts into a class docstring, in place of ``{shared}`` and the like."""
    table = indent(observation_table(), "    ")
    parts = {"routes": _ROUTES, "placements": _PLACEMENTS, "shared": _SHARED.format(table=table)}
    for name, text in parts.items():
        if cls.__doc__ is not None:  # absent under python -OO
            cls.__doc__ = cls.__doc__.replace(f"    {{{name}}}", indent(text, "    "))
    return cls
