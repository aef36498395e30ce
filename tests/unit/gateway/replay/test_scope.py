from gateway.replay.scope import Isolation, ReplayScope, scope_of
from gateway.store.keys import replay_key

SESSION = "claude:S1:agent:main"


def scope(
    session: str = SESSION, *, model: str = "gpt-5.4", tenant: str = "t1", isolation: Isolation = "tenant"
) -> ReplayScope:
    made = scope_of("codex", model, session, tenant=tenant, isolation=isolation)
    assert made is not None
    return made


def test_a_shared_scope_has_the_key_of_a_home_node() -> None:
    shared = scope(" claude:S1:agent:main ", model=" gpt-5.4\n", isolation="shared")
    assert shared == ReplayScope("codex", "gpt-5.4", SESSION)
    assert shared.key == replay_key("codex", "gpt-5.4", SESSION)


def test_every_part_makes_another_scope_and_so_does_the_tenant() -> None:
    keys = {
        scope().key,
        scope(tenant="t2").key,
        scope(tenant="").key,
        scope("claude:S1:agent:a7").key,
        scope(model="gpt-5.5").key,
        scope(isolation="shared").key,
    }
    assert len(keys) == 6
    assert scope(tenant="t1", isolation="shared") == scope(tenant="t2", isolation="shared")


def test_a_tenant_cannot_name_its_way_into_another_one() -> None:
    assert scope("b:claude:x", tenant="a") != scope("claude:x", tenant="a:b")
    assert scope(scope(tenant="t2").session, tenant="t1") != scope(tenant="t2")


def test_rp_26_without_a_model_or_a_session_there_is_no_scope() -> None:
    """Given an empty (or blank) model or session, expect no scope, so no command: not even for a tenant."""
    for model, session in (("", SESSION), (" \u3000", SESSION), ("m", ""), ("m", " \n"), ("m", None)):
        for isolation in ("tenant", "shared"):
            assert scope_of("codex", model, session, tenant="t", isolation=isolation) is None


def test_the_kind_is_that_of_the_session_with_and_without_a_tenant() -> None:
    assert scope().kind == scope(isolation="shared").kind == "claude"
    assert scope("prompt-cache:a:b").kind == "prompt-cache"


def test_the_digest_tells_scopes_apart_and_nothing_else() -> None:
    assert len(scope().digest) == 16
    assert scope().digest != scope(tenant="t2").digest
    assert "S1" not in scope().digest
