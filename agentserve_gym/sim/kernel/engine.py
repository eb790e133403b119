"""One serving engine: vLLM V1's continuous batching, with fused decode steps.

A step first serves the running turns in order (a decode takes one token, a prefill a chunk of
what the token budget leaves); if blocks are short, the turn at the tail is preempted and later
recomputes prompt and generated tokens. Then waiting turns are admitted, in queue order, as long as
slot, budget and blocks for the *whole* prompt suffice; a step that preempted admits nobody. With
async scheduling, step m is planned when step m - 1 starts: who arrived later is not seen, and what
a finished turn held comes free one step late. docs/conformance.md compares this with vLLM itself.

How long steps take, and how many are run at once, is the ``Stepper``'s business.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.hardware.pricing.timing import BatchStep, LatencyModel
from agentserve_gym.sim.kernel.answers import Restore
from agentserve_gym.sim.kernel.batch import DecodeBatch
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import Host, StepWatcher, Watcher
from agentserve_gym.sim.kernel.limits import EngineLimits
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import (
    DECODE,
    PREFILL,
    QUEUE,
    QUEUED,
    RUNNING,
    TurnState,
)
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.segments import Segment
from agentserve_gym.sim.kernel.shapes import (
    loaded_prefill_alone_s,
    mixed_shape,
    prefill_alone_s,
)
from agentserve_gym.sim.kernel.stepper import Steppable, Stepper
from agentserve_gym.sim.kernel.turn_blocks import TurnBlocks
from agentserve_gym.sim.kernel.turn_queue import TurnQueue
from agentserve_gym.sim.kernel.victims import VICTIMS


def _admission(request: Request) -> int:
    return request.admission


@mypyc_attr(allow_interpreted_subclasses=True)
class Engine(Steppable):
    """One instance's scheduler, batch and HBM pool.

    Attributes:
        pool: the HBM block pool. ``batch``: turns that decode.
        prefilling: turns with prompt left to compute; ``chunks``: those that do so in the steps
            that run now.
        running: turns in the batch or with prompt left to compute, in order of admission.
        queue: turns that wait for a place among those.
        preemptions, steps, busy_s: totals so far.
        watcher: told whenever the load has changed, where somebody sees it with a delay.
        step_watcher: told when a step's end brings new metrics, where somebody sees loads by them.
    """

    def __init__(
        self,
        index: int,
        limits: EngineLimits,
        latency: LatencyModel,
        pool: BlockPool,
        clock: Clock,
        host: Host,
        stepper: Stepper,
    ) -> None:
        self.index = index
        self.limits = limits
        self.latency = latency
        self.pool = pool
        self.batch = DecodeBatch(limits.block_size_tokens)
        self.prefilling: dict[int, Request] = {}
        self.running: dict[int, Request] = {}
        self.preemptions = 0
        self.steps = 0
        self.busy_s = 0.0
        self.chunks: list[Request] = []
        self.watcher: Watcher | None = None
        self.step_watcher: StepWatcher | None = None
        self._clock = clock
        self._host = host
        self._stepper = stepper
        self._budget = limits.max_num_batched_tokens
        self._slots = limits.max_num_seqs
        self._async = limits.async_scheduling
        self._blocks = blocks = TurnBlocks(pool, limits)
        self.queue = TurnQueue(limits, pool, blocks, self.running, clock, host)
        self._victim, self._place_again = VICTIMS[limits.preemption_victim]
        self._sequence = 0
        self._admissions = 0
        self._finishing: list[Request] = []
        self._first_step = 0
        self._synchronized_at_s = -1.0
        self._steps_done = 0
        self._ended_step_began_s = -1.0
        stepper.members.append(self)

    # --- what the rest of the simulation does to an engine -----------------------------------

    def enqueue(
        self, turn: TurnState, output_tokens: int, priority: float, restore: Restore
    ) -> Request:
        """Put a routed turn, which will emit ``output_tokens``, into the queue."""
        self._sequence = sequence = self._sequence + 1
        now = self._clock.time_s
        request = Request(turn, output_tokens, self.index, priority, restore, sequence, now)
        request.program.sent()
        self.synchronize()
        self.queue.join(request)
        self.reconsider()
        return request

    def load_finished(self, request: Request) -> None:
        """The KV that ``begin_load`` asked for has arrived; the turn queues, unless its prefill has
        begun."""
        if request.sequence in self.running:
            request.awaits_load = False
            request.program.enter(PREFILL, RUNNING, self._clock.time_s)
            self._stepper.load_arrived(self.limits.layerwise_layers)
        else:
            self.queue.loaded(request)
            self.reconsider()

    def promote(self, request: Request) -> None:
        """Move a turn that still waits in the queue to its front."""
        if self.queue.promote(request):
            self.reconsider()

    def reconsider(self) -> None:
        """Something outside the batch changed: a turn waits, or room appeared or vanished."""
        segment = self._stepper.segment
        if segment is None:
            if self.queue.turns:
                self._stepper.wake()
        elif segment.steps > 1:
            started = min(self.synchronize() + 1, segment.steps)
            steps = self._steps_still_possible(segment, started)
            if steps < segment.steps:
                self._stepper.shorten(steps)
        if self.watcher is not None:
            self.watcher.load_changed()

    def synchronize(self) -> int:
        """Bring block allocation up to the present, inside a run of fused steps.

        Returns:
            Steps of the current run that have ended by now.
        """
        segment = self._stepper.segment
        if segment is None:
            return 0
        now = self._clock.time_s
        if now != self._synchronized_at_s:
            self._synchronized_at_s = now
            self._steps_done = done = segment.completed(now)
            if segment.steps > 1:
                self._allocate(min(done + 1, segment.steps))
        return self._steps_done

    def prefill_tokens_left(self) -> int:
        """Prompt tokens that the running turns have yet to compute."""
        left = sum(
            request.target_tokens - request.computed_tokens for request in self.prefilling.values()
        )
        segment = self._stepper.segment
        if segment is not None and self.chunks and segment.steps > 1:
            left -= segment.completed(self._clock.time_s) * self.chunks[0].chunk_tokens
        return left

    def prefill_s(self, new_tokens: int, history_tokens: int) -> float:
        """Seconds to prefill alone, in chunks."""
        return prefill_alone_s(self.latency, self._budget, new_tokens, history_tokens)

    def loaded_prefill_s(self, load_s: float, new_tokens: int, history_tokens: int) -> float:
        """Seconds to prefill alone where the history takes ``load_s`` to load."""
        layers = self.limits.layerwise_layers
        return loaded_prefill_alone_s(
            self.latency, self._budget, layers, load_s, new_tokens, history_tokens
        )

    def emitted_tokens(self) -> dict[int, int]:
        """Tokens that each of its turns has emitted so far, by program."""
        steps_done = self.synchronize()
        emitted = {request.program.index: request.generated for request in self._unfinished()}
        for request in self.batch.turns.values():
            emitted[request.program.index] = self.batch.emitted_tokens(request, steps_done)
        return emitted

    def redraw_outputs(self, output_tokens: dict[int, int]) -> None:
        """Let its turns emit other numbers of tokens, by program: more than they have so far.

        The steps that run now end with the one that has started: where a longer run would end
        depends on the outputs that it was planned with.
        """
        steps_done = self.synchronize()
        for request in self._unfinished():
            request.output_tokens = output_tokens[request.program.index]
        self.batch.finish_anew()
        segment = self._stepper.segment
        if segment is not None and segment.steps > steps_done + 1:
            self._stepper.shorten(steps_done + 1)

    def _unfinished(self) -> list[Request]:
        queue = self.queue
        turns = [*queue.turns, *queue.loading.values(), *self.prefilling.values()]
        return [*turns, *self.batch.turns.values()]

    # --- what the stepper asks for -----------------------------------------------------------

    @property
    def awaits_loads(self) -> bool:
        """Whether the planned step needs KV that is still on its way."""
        for request in self.chunks:  # noqa: SIM110  # compiled, sooner than a generator
            if request.awaits_load:
                return True
        return False

    @property
    def has_work(self) -> bool:
        """Whether the planned step computes anything."""
        return bool(self.chunks or self.batch.turns)

    def complete(self, segment: Segment) -> list[Request]:
        """Apply the effects of the steps that just ended; returns the turns that finished."""
        batch = self.batch
        steps = segment.steps
        if steps > 1:  # a single step's blocks were taken when it was planned
            self._allocate(steps)
        batch.step = self._first_step + steps
        self.steps += steps
        self.busy_s += self._clock.time_s - segment.start_s
        finished = batch.pop_finished()
        for request in finished:
            batch.leave(request)
            self._blocks.settle(request)
        for request in self.chunks:
            request.computed_tokens += steps * request.chunk_tokens
            if request.computed_tokens == request.target_tokens:
                self._end_prefill(request, finished)
        if len(finished) > 1:
            finished.sort(key=_admission)
        if self._async:
            self._finishing = list(finished)
        else:
            self._release(finished)
        if self.step_watcher is not None:
            self._ended_step_began_s = segment.boundary_s(steps - 1)
        return finished

    @property
    def segment(self) -> Segment | None:
        """The steps that run now, ``None`` when idle."""
        return self._stepper.segment

    def plan(self, planned_at_s: float) -> None:
        """Plan the step that starts now, from what was known at ``planned_at_s``."""
        self.chunks = self._schedule(planned_at_s)
        if self._finishing:
            finishing, self._finishing = self._finishing, []
            self._release(finishing)
        if self.queue.turns and not (self.chunks or self.batch.turns):
            self.chunks = self._schedule(self._clock.time_s)
        self._first_step = self.batch.step
        self._synchronized_at_s = -1.0
        if self.watcher is not None:
            self.watcher.load_changed()
        self._show_metrics()

    def announce(self, finished: list[Request]) -> None:
        """Tell the host which turns ended."""
        for request in finished:
            self._host.turn_finished(request)

    def shape(self) -> BatchStep:
        """The planned step's batch."""
        return mixed_shape(self.batch, self.chunks) if self.chunks else self.batch.shape()

    def full_chunks(self) -> int:
        """Steps until a lone prefill's last chunk, a completion or a shortage of blocks."""
        request, chunk = self.chunks[0], self.chunks[0].chunk_tokens
        if len(self.chunks) > 1 or chunk + len(self.batch.turns) < self._budget:
            return 1
        steps = (request.target_tokens - request.computed_tokens - 1) // chunk
        if self.batch.turns:
            steps = min(steps, self.batch.steps_to_completion())
        if steps <= 1 or self._blocks_ahead(request, 1, steps) > self._room():
            return 1
        return steps

    def decode_steps(self, linear_steps: int) -> int:
        """Steps that can run before a completion, a shortage of blocks or an admission."""
        if self.queue.turns and self._admits_next(self._clock.time_s):
            return 1
        batch = self.batch
        if not batch.turns:
            return linear_steps
        steps = min(linear_steps, batch.steps_to_completion())
        return 1 + batch.steps_within(self._room(), steps - 1)

    # --- steps -------------------------------------------------------------------------------

    def _steps_still_possible(self, segment: Segment, started: int) -> int:
        """How many of the planned steps the changed circumstances allow."""
        if self.chunks:
            ahead = self._blocks_ahead(self.chunks[0], started, segment.steps)
            return segment.steps if ahead <= self._room() else started
        steps = segment.steps
        if self.batch.turns:
            steps = started + self.batch.steps_within(self._room(), steps - started)
        if not self.queue.turns:
            return steps
        now = self._clock.time_s
        lags = self._async and bool(self.batch.turns)
        next_planned_at = segment.boundary_s(started - 1) if lags else now
        if self._admits_next(next_planned_at):
            return min(steps, started)
        return min(steps, started + 1) if self._admits_next(now) else steps

    def _end_prefill(self, request: Request, finished: list[Request]) -> None:
        """The prompt is computed and the next token emitted."""
        now = self._clock.time_s
        del self.prefilling[request.sequence]
        request.generated += 1
        if request.first_token_s < 0.0:
            request.first_token_s = now
        request.program.enter(DECODE, RUNNING, now)
        left = request.output_tokens - request.generated
        if left:
            self.batch.join(request, left)
        else:
            finished.append(request)

    def _blocks_ahead(self, request: Request, started: int, steps: int) -> int:
        """Blocks that a run with a lone prefill needs beyond its first ``started`` steps."""
        decode = self.batch.blocks_for(steps - started) if self.batch.turns else 0
        return decode + self._blocks.to_own(request, steps * request.chunk_tokens)

    def _room(self) -> int:
        """Blocks that running turns can have."""
        pool = self.pool
        room = pool.free + pool.cached
        if pool.pins and not self.limits.hard_pins:
            room += pool.reclaimable_pinned()
        return room

    def _allocate(self, started: int) -> None:
        """Allocate the blocks of the run's first ``started`` steps, as far as not done yet."""
        batch = self.batch
        ahead = self._first_step + started - batch.allocated_step
        if ahead <= 0:
            return
        if self.pool.watcher is not None and self.pool.changing_at_s is None:
            self._allocate_in_order(started)
            return
        need = batch.blocks_for(ahead) if batch.turns else 0
        for request in self.chunks:
            blocks = self._blocks.to_own(request, started * request.chunk_tokens)
            need += blocks
            self._blocks.grow(request, blocks, started * request.chunk_tokens)
        if need and not (self.pool.take_free(need) or self._take(need)):
            raise RuntimeError(f"{self.pool.name}: planned steps ran out of KV blocks")
        batch.allocated_step += ahead

    def _allocate_in_order(self, started: int) -> None:
        """The same step by step, for a watcher that dates every change."""
        segment = self._stepper.segment
        assert segment is not None
        for step in range(self.batch.allocated_step - self._first_step + 1, started + 1):
            self.pool.date_changes(segment.boundary_s(step - 1))
            self._allocate(step)
        self.pool.date_changes(None)

    # --- the scheduler -----------------------------------------------------------------------

    def _schedule(self, planned_at_s: float) -> list[Request]:
        """One scheduling pass; returns the turns that prefill a chunk in this step."""
        preemptions = self.preemptions
        scheduled = self._schedule_running()
        while scheduled is None:
            self._preempt()
            scheduled = self._schedule_running()
        self.batch.allocated_step += 1
        if not self._async:
            self._show_metrics()
        if self.queue.turns and self.preemptions == preemptions:
            self._admit_waiting(scheduled, planned_at_s)
        return scheduled

    def _show_metrics(self) -> None:
        """After a step's end: with async scheduling, once the next step's turns are admitted."""
        began_s = self._ended_step_began_s
        if self.step_watcher is not None and began_s >= 0.0:
            self._ended_step_began_s = -1.0
            self.step_watcher.metrics_shown(began_s)

    def _schedule_running(self) -> list[Request] | None:
        """Give running turns their tokens and blocks; returns those that prefill a chunk.

        Where there are not enough blocks for all: ``None``, and nothing is done.
        """
        batch, pool = self.batch, self.pool
        batch.allocated_step = batch.step
        need = batch.blocks_for_next()
        if not self.prefilling:
            return [] if pool.take_free(need) or self._take(need) else None
        budget = self._budget - len(batch.turns)
        chunks: list[tuple[Request, int, int]] = []
        for request in self.prefilling.values():
            chunk = min(request.target_tokens - request.computed_tokens, budget)
            if chunk <= 0:
                break
            blocks = self._blocks.to_own(request, chunk)
            budget -= chunk
            need += blocks
            chunks.append((request, chunk, blocks))
        if not (pool.take_free(need) or self._take(need)):
            return None
        for request, chunk, blocks in chunks:
            request.chunk_tokens = chunk
            self._blocks.grow(request, blocks, chunk)
        return [request for request, _, _ in chunks]

    def _take(self, count: int) -> bool:
        """Have the pool hold ``count`` more blocks, free or reclaimed; False, and nothing done, if
        it cannot."""
        return self.pool.take(count, break_pins=self.queue.may_break_pins(1))

    def _admit_waiting(self, scheduled: list[Request], planned_at_s: float) -> None:
        """Admit waiting turns into the step: they join ``scheduled``."""
        queue, now = self.queue, self._clock.time_s
        budget = self._budget - len(self.batch.turns)
        for request in scheduled:
            budget -= request.chunk_tokens
        while queue.turns and budget > 0 and self._has_slot():
            taken = queue.take_next(planned_at_s)
            if taken is None:
                return
            chunk = min(taken.target_tokens - taken.computed_tokens, budget)
            blocks = self._blocks.to_own(taken, chunk)
            if not self.pool.take_free(blocks):
                self._take(blocks)
            taken.chunk_tokens = chunk
            self._blocks.grow(taken, blocks, chunk)
            budget -= chunk
            if not taken.awaits_load:
                taken.program.enter(PREFILL, RUNNING, now)
            self._admissions = taken.admission = self._admissions + 1
            self.running[taken.sequence] = self.prefilling[taken.sequence] = taken
            scheduled.append(taken)

    def _has_slot(self) -> bool:
        return len(self.running) < self._slots

    def _admits_next(self, planned_at_s: float) -> bool:
        """Whether a step planned at that time would admit a waiting turn, as things are now."""
        if not self._has_slot() or len(self.batch.turns) >= self._budget:
            return False
        return self.queue.fits_next(planned_at_s)

    def _preempt(self) -> None:
        """Free the blocks of a running turn (they stay cached) and queue it again.

        With async scheduling that may be one whose last token is on its way: it ends all the same.
        """
        request = self._victim(self.running, self.batch)
        self.preemptions += 1
        if request.sequence in self.batch.turns:
            self.batch.leave(request)
            self._blocks.settle(request)
        else:
            self.prefilling.pop(request.sequence, None)
        if self._async and request.computed_tokens > request.target_tokens:
            # Its last token is not known yet, and a block that ends there has no hash.
            request.computed_tokens -= 1
        self._release([request])
        if request in self._finishing:
            self._finishing.remove(request)
            return
        self._host.turn_preempted(request)
        now = self._clock.time_s
        place = self._place_again(request, self.preemptions)
        request.start_over(place, self.limits.block_size_tokens, now)
        request.program.enter(QUEUE, QUEUED, now)
        self.queue.join(request)

    def _release(self, finished: list[Request]) -> None:
        for request in finished:
            del self.running[request.sequence]
            self._blocks.cache(request)
