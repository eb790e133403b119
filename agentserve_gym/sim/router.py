"""The session-aware router: asks where turns run, holds them, and asks where KV waits.

Turns that a policy holds form one queue, in the scenario's order. Its head is offered again when a
turn completes or KV blocks come free, and the next one as long as offers are taken; so a held turn
costs a decision only when its chance has changed. Where neither happens for ``reoffer_s``, it is
offered all the same, for rules that go by time.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import isfinite
from numbers import Integral
from typing import Any

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.decisions import Decision, PlacementDecision, RouteDecision
from agentserve_gym.sim.kernel.answers import (
    KEEP,
    Hold,
    Place,
    PlacementKind,
    Restore,
    Route,
)
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock, Event
from agentserve_gym.sim.kernel.programs import TOOL_GAP, ProgramState, TurnState
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.metrics import Metrics
from agentserve_gym.sim.orchestrator import TurnSink
from agentserve_gym.sim.tools import ToolSimulator
from agentserve_gym.sim.views import ClusterView

HeldKey = tuple[float, float, int]
"""Place among held turns, lowest first: the policy's priority, the scenario's order, program."""


@mypyc_attr(allow_interpreted_subclasses=True)
class WaitingTurn(Copyable):
    """A released turn that no engine has yet.

    Attributes:
        turn: what is known of it. ``output_tokens``: for its engine alone.
        offers: how often a policy was asked where it should run.
        lane, key: its lane and its place among held turns, from the policy's last ``Hold``.
    """

    __slots__ = ("key", "lane", "offers", "output_tokens", "turn")

    def __init__(self, turn: TurnState, output_tokens: int) -> None:
        self.turn = turn
        self.output_tokens = output_tokens
        self.offers = 0
        self.lane = 0
        self.key: HeldKey = (0.0, 0.0, 0)


def _held_key(waiting: WaitingTurn) -> HeldKey:
    return waiting.key


@mypyc_attr(allow_interpreted_subclasses=True)
class Router(TurnSink):
    """Turns events into decisions and answers into dispatches and placements.

    Attributes:
        held: turns held back, next offer first. ``in_engines``: turns sent and not finished.
        may_ask: false where ``next_decision`` would certainly return nothing.
    """

    def __init__(
        self,
        engines: list[Engine],
        residency: Residency,
        cluster: ClusterView,
        metrics: Metrics,
        clock: Clock,
        tools: ToolSimulator,
        held_order: str,
        reoffer_s: float,
    ) -> None:
        self.held: list[WaitingTurn] = []
        self.in_engines = 0
        self.may_ask = False
        self._engines = engines
        self._residency = residency
        self._cluster = cluster
        self._metrics = metrics
        self._clock = clock
        self._tools = tools
        self._held_order = held_order
        self._reoffer_s = reoffer_s
        self._reoffer_planned = False
        self._offered_held_s = 0.0
        self._fresh: deque[WaitingTurn] = deque()
        self._offered: WaitingTurn | None = None
        self._gaps: deque[ProgramState] = deque()
        self._offer_held = False
        self._refused_lanes: set[int] = set()

    # --- events ------------------------------------------------------------------------------

    def turn_ready(self, turn: TurnState, output_tokens: int) -> None:
        """A turn was released: it will be offered, and emit ``output_tokens`` at its engine."""
        if turn.number and turn.reuse_tokens < turn.program.context_tokens:
            size = self._cluster.instances[0].block_size_tokens
            self._residency.truncate(turn.program, turn.reuse_tokens // size)
        self._fresh.append(WaitingTurn(turn, output_tokens))
        self.may_ask = True

    def gap_began(self, program: ProgramState) -> None:
        """A tool gap began: its placement will be asked."""
        self._gaps.append(program)
        self.may_ask = True

    def session_forgotten(self, program: ProgramState) -> None:
        """A program whose person did not come back leaves the router's table."""
        self._residency.session_forgotten(program)

    def turn_finished(self, request: Request) -> None:
        """A turn left its engine: held turns get another chance."""
        self._engines[request.instance].pool.forget_rank(request.program.index)
        self.in_engines -= 1
        self._cluster.instances[request.instance].sent_turns -= 1
        self.offer_held_again()

    def offer_held_again(self) -> None:
        """A turn ended or KV blocks came free: held turns get another chance."""
        self._offer_held = self.may_ask = True
        self._refused_lanes.clear()

    def redraw_outputs(self, output_tokens: dict[int, int]) -> None:
        """Let turns that no engine has yet emit other numbers of tokens, by program."""
        offered = [self._offered] if self._offered is not None else []
        for waiting in (*self.held, *self._fresh, *offered):
            index = waiting.turn.program.index
            waiting.output_tokens = output_tokens.get(index, waiting.output_tokens)

    def reoffer(self) -> None:
        """Time has passed: held turns get another chance, unless they had one meanwhile."""
        self._reoffer_planned = False
        if not self.held:
            return
        if self._clock.time_s >= self._offered_held_s + self._reoffer_s:
            self.offer_held_again()
        else:
            self._plan_reoffer()

    def _plan_reoffer(self) -> None:
        """One event at a time: offers meanwhile need not move it."""
        if not self._reoffer_planned:
            self._reoffer_planned = True
            self._clock.schedule(self._offered_held_s + self._reoffer_s, _Reoffer(self))

    # --- decisions ---------------------------------------------------------------------------

    def next_decision(self) -> Decision | None:
        """The next question that is due now, if any: placements first, then turns."""
        if self._gaps:
            return self._placement(self._gaps.popleft())
        if self._fresh:
            return self._offer(self._fresh.popleft())
        if self._offer_held:
            for position, waiting in enumerate(self.held):
                if waiting.lane not in self._refused_lanes:
                    return self._offer_held_turn(position)
        if self.held and not self._progress_without_held:
            return self._offer_held_turn(0)
        self._offer_held = False
        self.may_ask = bool(self.held)
        return None

    @property
    def _progress_without_held(self) -> bool:
        """Whether a turn will end or a tool be done even if nothing held is ever sent. People take
        hours: their return is nothing to hold everybody for."""
        return self.in_engines > 0 or self._tools.open_tool_gaps > 0

    def _offer_held_turn(self, position: int) -> RouteDecision:
        self._offered_held_s = self._clock.time_s
        return self._offer(self.held.pop(position))

    def _placement(self, program: ProgramState) -> PlacementDecision:
        self._cluster.held_turns = len(self.held)
        now = self._clock.time_s
        return tuple.__new__(  # in half the time that the class's own constructor takes
            PlacementDecision,
            (
                now,
                program,
                self._cluster,
                program.home,
                program.gap_kind,
                program.gap_tool_kinds,
                now - program.gap_started_s,
            ),
        )

    def _offer(self, waiting: WaitingTurn) -> RouteDecision:
        self._cluster.held_turns = len(self.held)
        may_hold = self._progress_without_held
        turn, offers = waiting.turn, waiting.offers
        waiting.offers += 1
        self._offered = waiting
        return tuple.__new__(
            RouteDecision,
            (self._clock.time_s, turn.program, turn, self._cluster, may_hold, offers),
        )

    # --- answers -----------------------------------------------------------------------------

    def apply(self, decision: Decision, answer: object) -> None:
        """Carry out an answer; one that is not possible falls back to a safe one and is counted."""
        if isinstance(decision, RouteDecision):
            self._apply_route(decision, answer)
        else:
            self._apply_placement(decision, answer)

    def _apply_route(self, decision: RouteDecision, answer: object) -> None:
        waiting, self._offered = self._offered, None
        assert waiting is not None
        turn = waiting.turn
        if isinstance(answer, Hold) and decision.may_hold and _can_hold(answer):
            self._hold(waiting, answer)
        elif isinstance(answer, Route) and self._can_route(answer, turn.program):
            self._dispatch(waiting, answer)
        else:
            self._metrics.answered_invalidly(decision, answer)
            self._dispatch(waiting, Route(self._safe_instance(turn.program)))
        if decision.offers == 0 and turn.number:
            self._residency.program_returned(turn.program)

    def _hold(self, waiting: WaitingTurn, answer: Any) -> None:
        if waiting.offers > 1:
            self._refused_lanes.add(waiting.lane)
        turn = waiting.turn
        waiting.lane = int(answer.lane)
        waiting.key = (float(answer.priority), self._order(turn), turn.program.index)
        self._metrics.holds += 1
        if not self.held:
            self._offered_held_s = self._clock.time_s
        insort(self.held, waiting, key=_held_key)
        self._plan_reoffer()

    def _order(self, turn: TurnState) -> float:
        """A held turn's place in the scenario's order."""
        if self._held_order == "program_arrival":
            return turn.program.arrival_s
        if self._held_order == "shortest_context":
            return float(turn.prompt_tokens)
        return turn.ready_s

    def _dispatch(self, waiting: WaitingTurn, answer: Any) -> None:
        instance = int(answer.instance)
        self.in_engines += 1
        self._cluster.instances[instance].sent_turns += 1
        engine = self._engines[instance]
        request = engine.enqueue(
            waiting.turn, waiting.output_tokens, float(answer.priority), answer.restore
        )
        if answer.promote_after_s is not None:
            at_s = self._clock.time_s + float(answer.promote_after_s)
            self._clock.schedule(at_s, _Promotion(engine, request))

    def _can_route(self, answer: Any, program: ProgramState) -> bool:
        instance, wait = answer.instance, answer.promote_after_s
        try:
            return (
                _is_integer(instance)
                and 0 <= instance < len(self._engines)
                and self._cluster.serves(int(instance), program)
                and isfinite(answer.priority)
                and (wait is None or wait >= 0.0)
                and isinstance(answer.restore, Restore)
            )
        except TypeError:  # not numbers
            return False

    def _safe_instance(self, program: ProgramState) -> int:
        """Home, else of those that serve its model the instance with the fewest turns."""
        if program.home >= 0:
            return program.home
        views = self._cluster.serving(program)
        return min([(view.sent_turns, view.index) for view in views])[1]

    def _apply_placement(self, decision: PlacementDecision, answer: object) -> None:
        program = decision.program
        if not self._possible(answer, program.home):
            self._metrics.answered_invalidly(decision, answer)
            return
        if program.status is not TOOL_GAP:
            return
        place = _plain(answer)
        self._residency.place(program, place)
        if place.ask_again_s is not None:
            at_s = self._clock.time_s + place.ask_again_s
            self._clock.schedule(at_s, _AskAgain(self, program))

    def _possible(self, answer: Any, home: int) -> bool:
        if not isinstance(answer, Place):
            return False
        try:
            if answer.ask_again_s is not None and not answer.ask_again_s > 0.0:
                return False
            if not isfinite(answer.rank):
                return False
            if answer.kind is PlacementKind.PIN:
                return answer.ttl_s > 0.0
        except TypeError:  # not numbers
            return False
        if answer.kind is PlacementKind.OFFLOAD:
            return type(answer.tier) is str and self._cluster.reaches(home, answer.tier)
        return isinstance(answer.kind, PlacementKind)

    def ask_again(self, program: ProgramState, gaps: int) -> None:
        """Ask where the KV waits once more, if the gap before which ``gaps`` were is still on."""
        if program.status is TOOL_GAP and program.gaps == gaps:
            self._gaps.append(program)
            self.may_ask = True


def _plain(answer: Any) -> Place:
    """A placement in Python's own numbers, which is all that the kernel takes, compiled."""
    place: Place = answer
    if place is KEEP:
        return place
    again_s = answer.ask_again_s
    return Place(
        answer.kind,
        float(answer.ttl_s),
        bool(answer.until_admitted),
        None if again_s is None else float(again_s),
        float(answer.rank),
        bool(answer.stay_warm),
        str(answer.tier),
    )


def _is_integer(value: object) -> bool:
    """Python's own, which is found out sooner, or NumPy's."""
    return type(value) is int or isinstance(value, Integral)


def _can_hold(answer: Any) -> bool:
    try:
        return isfinite(answer.priority) and _is_integer(answer.lane)
    except TypeError:  # not a number
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class _Promotion(Event):
    """A turn has waited long enough to move to the front of its queue."""

    __slots__ = ("_engine", "_request")

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._request = request

    def fire(self) -> None:
        self._engine.promote(self._request)


@mypyc_attr(allow_interpreted_subclasses=True)
class _Reoffer(Event):
    """Held turns may have waited long enough for another offer."""

    __slots__ = ("_router",)

    def __init__(self, router: Router) -> None:
        self._router = router

    def fire(self) -> None:
        self._router.reoffer()


@mypyc_attr(allow_interpreted_subclasses=True)
class _AskAgain(Event):
    """A policy wants to be asked again about the gap that was on when this was made."""

    __slots__ = ("_gaps", "_program", "_router")

    def __init__(self, router: Router, program: ProgramState) -> None:
        self._router = router
        self._program = program
        self._gaps = program.gaps

    def fire(self) -> None:
        self._router.ask_again(self._program, self._gaps)
