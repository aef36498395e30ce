"""Which turns use an upstream session, and what they leave behind."""

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.kernel.ids import TurnId
from gateway.sessions.policy import Session, SessionPolicy, affinity
from gateway.sessions.store import SessionEntry, SessionLimits
from gateway.sessions.store_memory import MemorySessionCache
from gateway.turn.items import Item, Message, Role, TextPart
from gateway.turn.request import RawRequest, Turn


def said(role: Role, text: str) -> Message:
    return Message(role=role, parts=(TextPart(text),))


FIRST = (said("user", "Name a tree"),)
SECOND = (*FIRST, said("assistant", "Oak"), said("user", "Another"))


def turn_of(
    *items: Item,
    tenant: str = "t-1",
    user: str | None = None,
    affinity: str = "",
    mentions_tools: bool = False,
) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant=tenant,
        created_at_ms=0,
        model="m",
        items=items,
        raw=RawRequest("chat", {}),
        user=user,
        affinity=affinity,
        tools_mentioned=mentions_tools,
    )


def make_policy(*, enabled: bool = True) -> SessionPolicy:
    limits = SessionLimits(enabled=enabled, max_entries=lambda: 8, ttl_s=60)
    return SessionPolicy(MemorySessionCache(limits, FakeClock()))


async def remember_first(policy: SessionPolicy) -> None:
    await policy.remember(turn_of(*FIRST), "chat", reply_text="Oak", session_id="s-9", instance="w-0/inst-0")


async def test_the_next_turn_of_a_conversation_claims_the_session_it_left() -> None:
    policy = make_policy()
    await remember_first(policy)
    assert await policy.claim(turn_of(*SECOND), "chat") == Session("s-9", "w-0/inst-0")


async def test_a_session_is_claimed_once_so_two_turns_never_share_it() -> None:
    policy = make_policy()
    await remember_first(policy)
    await policy.claim(turn_of(*SECOND), "chat")
    assert await policy.claim(turn_of(*SECOND), "chat") is None


async def test_an_edited_history_finds_nothing() -> None:
    policy = make_policy()
    await remember_first(policy)
    edited = (said("user", "Name a river"), *SECOND[1:])
    assert await policy.claim(turn_of(*edited), "chat") is None
    other_reply = (*FIRST, said("assistant", "Elm"), SECOND[2])
    assert await policy.claim(turn_of(*other_reply), "chat") is None


async def test_tenants_do_not_meet() -> None:
    policy = make_policy()
    await remember_first(policy)
    assert await policy.claim(turn_of(*SECOND, tenant="t-2"), "chat") is None


async def test_lv_35_agents_and_turns_with_tools_keep_away_from_the_cache() -> None:
    """Given turn 2 with tools, or model agent. Expected no cache access: the session stays where it is."""
    policy = make_policy()
    await remember_first(policy)
    assert await policy.claim(turn_of(*SECOND, mentions_tools=True), "chat") is None
    assert await policy.claim(turn_of(*SECOND), "agent") is None
    assert await policy.claim(turn_of(*SECOND), "chat") is not None


async def test_a_finish_without_a_session_leaves_none() -> None:
    policy = make_policy()
    await policy.remember(turn_of(*FIRST), "chat", reply_text="Oak", session_id="", instance="w-0/inst-0")
    assert await policy.claim(turn_of(*SECOND), "chat") is None


async def test_switched_off_nothing_is_kept() -> None:
    policy = make_policy(enabled=False)
    await remember_first(policy)
    assert await policy.claim(turn_of(*SECOND), "chat") is None


class Away(MemorySessionCache):
    """A cache whose store does not answer."""

    async def claim(self, key: str) -> SessionEntry | None:
        raise StoreUnavailable("the store did not answer")

    async def put(self, key: str, session_id: str, instance_name: str = "", *, worker: str = "") -> None:
        raise StoreUnavailable("the store did not answer")


async def test_a_store_that_is_away_means_no_session_and_no_failure() -> None:
    policy = SessionPolicy(Away(SessionLimits(max_entries=lambda: 8, ttl_s=60), FakeClock()))
    await remember_first(policy)
    assert await policy.claim(turn_of(*SECOND), "chat") is None


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (turn_of(user="u-1"), turn_of(*FIRST, user="u-1"), True),
        (turn_of(user="u-1"), turn_of(user="u-2"), False),
        (turn_of(user="u-1"), turn_of(user="u-1", tenant="t-2"), False),
        (turn_of(user="u-1", affinity="first:1"), turn_of(user="u-1", affinity="first:2"), True),
        (turn_of(affinity="first:1"), turn_of(said("system", "Be brief"), affinity="first:1"), True),
        (turn_of(affinity="first:1"), turn_of(affinity="first:2"), False),
        (turn_of(affinity="first:1"), turn_of(affinity="first:1", tenant="t-2"), False),
        (turn_of(said("system", "Be brief"), *FIRST), turn_of(said("system", "Be brief")), True),
        (turn_of(said("system", "Be brief")), turn_of(said("system", "Be long")), False),
    ],
)
def test_affinity_is_the_users_else_the_conversations_else_the_system_prompts(
    one: Turn, other: Turn, equal: bool
) -> None:
    assert (affinity(one) == affinity(other)) is equal


def test_a_turn_with_neither_has_no_affinity() -> None:
    assert affinity(turn_of(*FIRST)) == ""
