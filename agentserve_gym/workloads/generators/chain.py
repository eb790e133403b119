"""Which tool follows which: a Markov chain over tool kinds that changes as the program ages.

Published are the share of each kind, a few transition probabilities, and how the shares of
exploring and executing shift over the quarters of a program. For each quarter a joint matrix of
(kind, next kind) is built that keeps the kinds' shares of that quarter on both sides and the given
transitions exactly, and is otherwise as independent as possible (iterative proportional fitting).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

PHASES = 4


class ToolChain:
    """A chain over ``kinds`` with one transition matrix per quarter of the program.

    Args:
        shares: kind -> share of all calls; scaled to sum to 1.
        groups: group name -> kinds in it, for the shares by quarter.
        group_shares: group name -> its share of calls in each quarter (4 numbers). Kinds in no
            group take what is left, in proportion to ``shares``.
        transitions: (kind, next kinds, probability): the chance that one of the next kinds follows.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        groups: Mapping[str, Sequence[str]] | None = None,
        group_shares: Mapping[str, Sequence[float]] | None = None,
        transitions: Sequence[tuple[str, Sequence[str], float]] = (),
    ) -> None:
        self.kinds: tuple[str, ...] = tuple(shares)
        base = np.array([shares[kind] for kind in self.kinds], dtype=float)
        base /= base.sum()
        self.phase_shares = _phase_shares(self.kinds, base, groups or {}, group_shares or {})
        self.matrices = [
            _transition_matrix(self.kinds, share, transitions) for share in self.phase_shares
        ]
        self._start = _cumulative(self.phase_shares[0])
        self._rows = [[_cumulative(row) for row in matrix] for matrix in self.matrices]

    def walk(self, uniforms: Sequence[float]) -> list[int]:
        """Kinds (as indices) of successive tool gaps, one per uniform number in [0, 1)."""
        steps = len(uniforms)
        walked: list[int] = []
        state = -1
        for step, u in enumerate(uniforms):
            rows = self._rows[PHASES * step // steps]
            state = bisect_right(self._start if state < 0 else rows[state], u)
            walked.append(state)
        return walked


def _cumulative(probabilities: FloatArray) -> list[float]:
    """Upper edges of all intervals but the last, which so takes what rounding leaves over."""
    return [float(edge) for edge in np.cumsum(probabilities)[:-1]]


def _phase_shares(
    kinds: Sequence[str],
    base: FloatArray,
    groups: Mapping[str, Sequence[str]],
    group_shares: Mapping[str, Sequence[float]],
) -> list[FloatArray]:
    phases = [base.copy() for _ in range(PHASES)]
    if not groups:
        return phases
    grouped = np.zeros(len(kinds), dtype=bool)
    for name, members in groups.items():
        inside = np.array([kind in members for kind in kinds])
        grouped |= inside
        wanted = np.asarray(group_shares[name], dtype=float)
        # Keep the overall share exactly: the quarters' shares are scaled to the group's own mean.
        wanted = wanted * base[inside].sum() / wanted.mean()
        for phase, share in zip(phases, wanted, strict=True):
            phase[inside] = base[inside] / base[inside].sum() * share
    for phase in phases:
        rest = 1.0 - phase[grouped].sum()
        phase[~grouped] = base[~grouped] / base[~grouped].sum() * rest
    return phases


def _transition_matrix(
    kinds: Sequence[str],
    share: FloatArray,
    transitions: Sequence[tuple[str, Sequence[str], float]],
) -> FloatArray:
    joint = np.outer(share, share)
    fixed = np.zeros_like(joint, dtype=bool)
    for kind, followers, probability in transitions:
        row = kinds.index(kind)
        columns = [kinds.index(follower) for follower in followers]
        joint[row, columns] = share[row] * probability * share[columns] / share[columns].sum()
        fixed[row, columns] = True
    held = np.where(fixed, joint, 0.0)
    free = np.where(fixed, 0.0, joint)
    for _ in range(200):
        free *= ((share - held.sum(axis=1)) / free.sum(axis=1))[:, None]
        free *= (share - held.sum(axis=0)) / free.sum(axis=0)
    joint = held + free
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))
