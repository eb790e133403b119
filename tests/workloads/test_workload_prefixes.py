"""The radix tree: programs hold equal keys exactly where they hold equal tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.workloads import PrefixSegment
from agentserve_gym.workloads.prefixes import PrefixTree, common_length

# Paths of block ids in which an id is determined by all before it, as chained hashes are.
CHAINS = st.lists(
    st.lists(st.integers(0, 2), max_size=6).map(
        lambda steps: tuple(hash_chain(steps)),
    ),
    min_size=1,
    max_size=8,
)


def hash_chain(steps: list[int]) -> list[int]:
    number, chain = 1, []
    for step in steps:
        number = number * 3 + step
        chain.append(number)
    return chain


def test_shared_runs_are_split_where_prompts_part() -> None:
    tree = PrefixTree(16, "t")
    paths = [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 6), (7,)]
    for path in paths:
        tree.insert(path)
    first, second, third, fourth = (tree.segments(path) for path in paths)
    assert [segment.tokens for segment in first] == [32, 16]  # (1, 2) by three, (3) by two
    assert first == second
    assert third == first[:1]
    assert fourth == ()


def test_equal_prompts_share_everything() -> None:
    tree = PrefixTree(512, "t")
    tree.insert((1, 2))
    tree.insert((1, 2))
    assert [segment.tokens for segment in tree.segments((1, 2))] == [1024]


@given(CHAINS)
def test_shared_tokens_are_the_longest_common_start_with_any_other(
    paths: list[tuple[int, ...]],
) -> None:
    tree = PrefixTree(1, "t")
    for path in paths:
        tree.insert(path)
    found = [tree.segments(path) for path in paths]
    for index, (path, segments) in enumerate(zip(paths, found, strict=True)):
        others = paths[:index] + paths[index + 1 :]
        longest = max((common_length(path, other) for other in others), default=0)
        assert sum(segment.tokens for segment in segments) == longest
        for other, theirs in zip(paths, found, strict=True):
            # equal keys cover exactly the common start, or all that each shares with anyone
            equal: list[PrefixSegment] = []
            for a, b in zip(segments, theirs, strict=False):
                if a != b:
                    break
                equal.append(a)
            assert sum(s.tokens for s in equal) == min(common_length(path, other), longest)
            assert not {s.key for s in segments[len(equal) :]} & {s.key for s in theirs}
