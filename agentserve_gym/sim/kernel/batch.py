"""The decoding part of an engine's batch, held as aggregates.

Every decoding turn advances by one token per step, so none of them is touched in a step: each
remembers the step at which it joined, and sums, block needs and completions follow from one step
counter. This is what lets a run of steps be priced and applied in closed form.
"""

from __future__ import annotations

from heapq import heappop, heappush

from mypy_extensions import mypyc_attr

from agentserve_gym.hardware.pricing.timing import BatchStep
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.request import Request


@mypyc_attr(allow_interpreted_subclasses=True)
class DecodeBatch(Copyable):
    """Turns that decode, as sums over them.

    ``step`` counts the engine's steps; a turn that joined at step ``s`` with ``n`` computed tokens
    attends ``n + 1 + step - s`` keys in the coming step. ``allocated_step`` is the step up to which
    KV blocks were allocated.
    """

    __slots__ = (
        "_block_size",
        "_finish_heap",
        "_longest_offset",
        "_offset_sum",
        "_residues",
        "allocated_step",
        "step",
        "turns",
    )

    def __init__(self, block_size_tokens: int) -> None:
        self._block_size = block_size_tokens
        self.step = 0
        self.allocated_step = 0
        self.turns: dict[int, Request] = {}
        self._offset_sum = 0
        self._longest_offset: int | None = None
        # Turns by offset modulo the block size, written down twice: any stretch of it is a slice.
        self._residues = [0] * (2 * block_size_tokens)
        self._finish_heap: list[tuple[int, int, Request]] = []

    def __len__(self) -> int:
        return len(self.turns)

    def join(self, request: Request, steps_left: int) -> None:
        """Let a turn whose prefill just ended decode for ``steps_left`` more steps."""
        request.decode_start = self.step
        request.finish_step = self.step + steps_left
        self.turns[request.sequence] = request
        offset = request.target_tokens - self.step
        self._offset_sum += offset
        self._count(offset, 1)
        if self._longest_offset is not None and offset > self._longest_offset:
            self._longest_offset = offset
        heappush(self._finish_heap, (request.finish_step, request.sequence, request))

    def _count(self, offset: int, change: int) -> None:
        at = offset % self._block_size
        self._residues[at] += change
        self._residues[at + self._block_size] += change

    def leave(self, request: Request) -> None:
        """Take a turn out of the batch: what it emitted and computed is booked."""
        del self.turns[request.sequence]
        step, started = self.step, request.decode_start
        offset = request.target_tokens - started
        self._offset_sum -= offset
        self._count(offset, -1)
        if offset == self._longest_offset:
            self._longest_offset = None
        request.finish_step = -1
        request.generated += step - started
        request.computed_tokens = offset + step

    def emitted_tokens(self, request: Request, steps_done: int) -> int:
        """Tokens that a turn of the batch has emitted once ``steps_done`` more steps have ended."""
        return request.generated + self.step + steps_done - request.decode_start

    def finish_anew(self) -> None:
        """Let every turn end where its ``output_tokens`` say now: after what it has emitted."""
        self._finish_heap.clear()
        for request in self.turns.values():
            left = request.output_tokens - request.generated
            request.finish_step = request.decode_start + left
            heappush(self._finish_heap, (request.finish_step, request.sequence, request))

    def pop_finished(self) -> list[Request]:
        """Turns whose last step has ended, in order of arrival; still in the batch."""
        heap = self._finish_heap
        finished: list[Request] = []
        while heap and heap[0][0] <= self.step:
            step, _, request = heappop(heap)
            if request.finish_step == step:
                request.finish_step = -1
                finished.append(request)
        return finished

    def steps_to_completion(self) -> int:
        """Steps until the next turn finishes."""
        heap = self._finish_heap
        while heap[0][2].finish_step != heap[0][0]:
            heappop(heap)
        return heap[0][0] - self.step

    def shape(self) -> BatchStep:
        """The coming step's batch if it only decodes."""
        count = len(self.turns)
        context = self._offset_sum + count * (self.step + 1)
        return BatchStep(count, context, self.longest_context_tokens(), 0, 0, 0, 0.0, count)

    def context_tokens(self) -> int:
        """Sum of the contexts attended in the coming step, tokens."""
        return self._offset_sum + len(self.turns) * (self.step + 1)

    def longest_context_tokens(self) -> int:
        """The longest context attended in the coming step, tokens."""
        if not self.turns:
            return 0
        if self._longest_offset is None:
            self._longest_offset = max(
                request.target_tokens - request.decode_start for request in self.turns.values()
            )
        return self._longest_offset + self.step + 1

    def blocks_for_next(self) -> int:
        """Blocks to allocate for the step after ``allocated_step``."""
        return self._residues[-self.allocated_step % self._block_size]

    def blocks_for(self, steps: int) -> int:
        """Blocks to allocate for ``steps`` more steps after ``allocated_step``."""
        residues, size = self._residues, self._block_size
        cycles, rest = divmod(steps, size)
        first = (1 - self.allocated_step - rest) % size
        return cycles * len(self.turns) + sum(residues[first : first + rest])

    def steps_within(self, blocks: int, at_most: int) -> int:
        """Further steps after ``allocated_step``, up to ``at_most``, for which ``blocks`` suffice.

        A turn takes one block in as many steps as a block has tokens: enough for everyone is seen
        at once, and what is left of a shortage is counted step by step.
        """
        count, size = len(self.turns), self._block_size
        if blocks >= -(-at_most // size) * count:
            return at_most
        cycles = max(blocks // count - 1, 0)
        steps = cycles * size
        left = blocks - cycles * count
        residues, at = self._residues, self.allocated_step
        while steps < at_most:
            left -= residues[-(at + steps) % size]
            if left < 0:
                return steps
            steps += 1
        return at_most
