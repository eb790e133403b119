"""How the figures of a run come about."""

from __future__ import annotations

from agentserve_gym.sim.kernel.tiers import HBM
from agentserve_gym.sim.metrics import Metrics
from agentserve_gym.sim.recording.history import FiguresNote, RunHistory


class FiguresObserver:
    """Writes a run's figures where one has changed."""

    def __init__(self, metrics: Metrics, history: RunHistory) -> None:
        self._metrics = metrics
        self._history = history
        self._done = self._prompt_tokens = 0
        self._jct_sum_s = 0.0

    def observe(self, now_s: float) -> None:
        """Take note of what has changed at this instant."""
        metrics = self._metrics
        done, prompt_tokens = len(metrics.jct_s), metrics.prompt_tokens
        if done == self._done and prompt_tokens == self._prompt_tokens:
            return
        self._jct_sum_s += sum(metrics.jct_s[self._done :])
        self._done, self._prompt_tokens = done, prompt_tokens
        hit_tokens = metrics.hit_tokens[HBM]
        loaded_tokens = sum(metrics.hit_tokens) - hit_tokens
        self._history.figures.append(
            FiguresNote(now_s, done, self._jct_sum_s, prompt_tokens, hit_tokens, loaded_tokens)
        )
