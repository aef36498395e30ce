from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.responses.chain import MAX_RESPONSES, NOTHING, Chain, Memory


def line(max_bytes: int, memory: Memory | None = None) -> Chain:
    return Chain(max_bytes, Memory(2**62) if memory is None else memory)


def says(chain: Chain, name: str, *said: Any, after: str = "", size: int = 1) -> None:
    past = chain.past(after) if after else NOTHING
    assert past is not None
    chain.remember(name, past, said, size, "m")


def said_by(chain: Chain, name: str) -> list[Any] | None:
    past = chain.past(name)
    return None if past is None else chain.items(past)


def test_cv_31_what_was_asked_and_answered_is_gone_on_with() -> None:
    """CV-31. Given a create that names the response before; expect old input, our output, then new items."""
    chain = line(100)
    says(chain, "r1", "u1", "a1")
    says(chain, "r2", "u2", "a2", after="r1")
    assert said_by(chain, "r2") == ["u1", "a1", "u2", "a2"]
    assert said_by(chain, "r1") == ["u1", "a1"], "what a client has may be gone on with once more"


def test_what_is_gone_on_with_replaces_what_came_after() -> None:
    chain = line(100)
    says(chain, "r1", "u1", "a1")
    says(chain, "r2", "u2", "a2", after="r1")
    says(chain, "r3", "u3", "a3", after="r1")
    assert said_by(chain, "r3") == ["u1", "a1", "u3", "a3"]
    assert said_by(chain, "r2") is None


def test_a_new_conversation_replaces_the_old_one() -> None:
    chain = line(100)
    says(chain, "r1", "u1", "a1")
    says(chain, "r2", "u2")
    assert said_by(chain, "r1") is None
    assert said_by(chain, "r2") == ["u2"]


def test_an_answer_that_adds_nothing_can_be_gone_on_with() -> None:
    chain = line(100)
    says(chain, "warm")
    says(chain, "r1", "u1", after="warm")
    assert said_by(chain, "warm") == []
    assert said_by(chain, "r1") == ["u1"]


def test_the_model_is_known() -> None:
    chain = line(100)
    chain.remember("r1", NOTHING, [], 0, "gpt")
    assert chain.past("r1") == (0, 0, "gpt")


def test_what_is_too_large_is_forgotten() -> None:
    chain = line(100)
    says(chain, "r1", "u1", size=60)
    says(chain, "r2", "u2", after="r1", size=41)
    assert (said_by(chain, "r1"), said_by(chain, "r2"), chain.size) == (None, None, 0)
    says(chain, "r3", "u3", size=100)
    assert said_by(chain, "r3") == ["u3"]


def test_the_oldest_responses_are_forgotten() -> None:
    chain = line(10_000)
    after = ""
    for number in range(MAX_RESPONSES + 5):
        says(chain, f"r{number}", number, after=after)
        after = f"r{number}"
    assert said_by(chain, "r4") is None
    assert said_by(chain, "r5") == [0, 1, 2, 3, 4, 5]
    assert said_by(chain, after) == list(range(MAX_RESPONSES + 5))


def test_the_lines_that_were_used_longest_ago_make_room() -> None:
    memory = Memory(100)
    one, other, third = (line(100, memory) for _ in range(3))
    says(one, "r1", "u1", size=40)
    says(other, "r2", "u2", size=40)
    says(one, "r3", "u3", after="r1", size=10)
    says(third, "r4", "u4", size=30)
    assert (said_by(one, "r3"), said_by(other, "r2"), said_by(third, "r4")) == (["u1", "u3"], None, ["u4"])
    assert memory.bytes == 80
    one.forget()
    assert memory.bytes == 30


def test_what_was_forgotten_while_it_was_answered_is_not_half_remembered() -> None:
    chain = line(100)
    says(chain, "r1", "u1", "a1")
    past = chain.past("r1")
    assert past is not None
    chain.forget()
    chain.remember("r2", past, ["u2", "a2"], 1, "m")
    assert (said_by(chain, "r2"), chain.size) == (None, 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), max_size=40))
def test_together_they_keep_within_the_bound(steps: list[tuple[int, int]]) -> None:
    memory = Memory(100)
    chains = [line(50, memory) for _ in range(5)]
    for number, (which, size) in enumerate(steps):
        chains[which].remember(f"r{number}", NOTHING, [number], size, "m")
        assert memory.bytes == sum(chain.size for chain in chains) <= 100
        assert (chains[which].past(f"r{number}") is not None) is (size <= 50)


Steps = st.lists(
    st.tuples(st.integers(-3, 12), st.lists(st.integers(), max_size=3), st.integers(0, 30)), max_size=14
)


@given(Steps)
def test_whatever_is_known_is_what_was_said(steps: list[tuple[int, list[int], int]]) -> None:
    """Against a memory of everything: nothing is said twice, nothing is lost, and nothing is out of order."""
    chain, everything, sizes = line(100), dict[str, list[int]](), dict[str, int]()
    for number, (step, said, size) in enumerate(steps):
        name, parent = f"r{number}", f"r{step}"
        past = chain.past(parent) if step >= 0 else NOTHING
        if past is None:
            continue
        before = everything[parent] if step >= 0 else []
        chain.remember(name, past, said, size, "m")
        everything[name] = before + said
        sizes[name] = size + (sizes[parent] if step >= 0 else 0)
        known = [response for response in everything if chain.past(response) is not None]
        assert (name in known) is (sizes[name] <= 100)
        for response in known:
            assert said_by(chain, response) == everything[response]
            assert everything[name][: len(everything[response])] == everything[response]
        assert chain.size <= 100
