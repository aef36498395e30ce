from gateway.kernel.ids import TurnId
from gateway.kernel.json import loads
from gateway.turn.items import Item, MediaPart, Message, Role, TextPart, ToolCall, ToolResult
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, RawRequest, ReasoningRequest, Sampling, Turn
from gateway.turn.tools import NONE, ToolChoice, ToolSpec
from gateway.upstreams.lingma.request import ToolPolicy, ask_mode, build_ask, losses_of, transcript

FIND = ToolSpec(name="find", description="finds", parameters={"type": "object"})
EDIT = ToolSpec(name="edit")


def said(role: Role, *texts: str) -> Message:
    return Message(role=role, parts=tuple(TextPart(text) for text in texts))


def turn(*items: Item, **more: object) -> Turn:
    return Turn(  # type: ignore[arg-type]
        id=TurnId("t"),
        tenant="-",
        created_at_ms=0,
        items=items,
        raw=RawRequest("chat", {}),
        **({"model": "org_auto"} | more),
    )


def ask(subject: Turn, **more: object) -> dict[str, object]:
    options = {
        "model": "kmodel",
        "mode": "chat",
        "request_id": "r-1",
        "session_id": "s-1",
        "is_reply": False,
        "tools": (),
    } | more
    params = loads(build_ask(subject, **options).params)  # type: ignore[arg-type]
    assert isinstance(params, dict)
    return params


def test_a_lone_user_message_is_its_bare_text() -> None:
    assert transcript([said("user", "hello", "you")]) == "hello\nyou"


def test_a_conversation_is_labelled_by_role() -> None:
    items = [said("system", "Be brief"), said("user", "Hi"), said("assistant", "Yo"), said("user", "Bye")]
    assert transcript(items) == "system: Be brief\n\nuser: Hi\n\nassistant: Yo\n\nuser: Bye"


def test_calls_and_results_keep_their_place_and_an_empty_result_is_named() -> None:
    items: list[Item] = [
        said("user", "look"),
        ToolCall(call_id="c1", name="find", arguments='{"q":1}'),
        ToolResult(call_id="c1", parts=()),
    ]
    assert transcript(items).splitlines()[2:] == [
        'assistant: [tool_call c1] find {"q":1}',
        "",
        "tool: [tool_result c1] (empty)",
    ]


def test_a_result_that_is_an_error_is_told_as_one() -> None:
    def line(*parts: TextPart, is_error: bool = True) -> str:
        return transcript([ToolResult(call_id="c1", parts=parts, is_error=is_error)])

    assert line(TextPart("no such file")) == "tool: [tool_result c1] (error) no such file"
    assert line() == "tool: [tool_result c1] (error) (empty)"
    assert line(TextPart("42"), is_error=False) == "tool: [tool_result c1] 42"


def test_chat_mode_fields() -> None:
    params = ask(turn(said("user", "Hi")))
    assert params["requestId"] == "r-1"
    assert (params["sessionType"], params["chatTask"], params["mode"]) == ("chat", "FREE_INPUT", "chat")
    assert (params["source"], params["stream"], params["isReply"]) == (1, True, False)
    assert params["questionText"] == params["text"] == params["content"] == "Hi"
    assert params["extra"] == {"modelConfig": {"key": "kmodel"}}
    assert "tools" not in params


def test_agent_mode_fields() -> None:
    params = ask(turn(said("user", "Hi")), mode="agent")
    assert (params["sessionType"], params["chatTask"], params["mode"]) == ("ask", "chat", "agent")


def test_a_follow_up_sends_only_the_newest_user_message() -> None:
    subject = turn(said("user", "A"), said("assistant", "R"), said("user", "B"))
    params = ask(subject, is_reply=True)
    assert (params["questionText"], params["isReply"], params["sessionId"]) == ("B", True, "s-1")


def test_offered_tools_stand_in_the_payload() -> None:
    subject = turn(said("user", "Hi"), tools=(FIND,), tool_choice=ToolChoice("named", ("find",)))
    params = ask(subject, tools=(FIND,))
    offered = [
        {
            "type": "function",
            "function": {"name": "find", "description": "finds", "parameters": {"type": "object"}},
        }
    ]
    assert params["tools"] == offered
    assert params["toolChoice"] == {"type": "function", "function": {"name": "find"}}
    extra = params["extra"]
    assert isinstance(extra, dict)
    assert extra["tools"] == offered


def test_the_policy_filters_what_is_offered() -> None:
    subject = turn(tools=(FIND, EDIT))
    assert ToolPolicy().offered(subject) == (FIND, EDIT)
    assert ToolPolicy(allowlist=("edit",)).offered(subject) == (EDIT,)
    assert ToolPolicy(allowlist=()).offered(subject) == ()
    assert ToolPolicy(forward=False).offered(subject) == ()
    assert ToolPolicy().offered(turn(tools=(FIND,), tool_choice=NONE)) == ()


def test_tools_that_somebody_else_hosts_are_a_loss() -> None:
    search = ToolSpec(name="web_search", kind="hosted")
    assert ToolPolicy().offered(turn(tools=(FIND, search))) == (FIND,)
    assert ToolPolicy(allowlist=("web_search",)).offered(turn(tools=(search,))) == ()
    assert losses_of(turn(tools=(search,)), ToolPolicy()) == [Loss("tools.web_search", "unsupported")]


def test_agent_names_and_tools_in_play_mean_agent_mode() -> None:
    assert ask_mode(turn(model="Lingma-Agent"), "chat") == "agent"
    assert ask_mode(turn(tools_mentioned=True), "chat") == "agent"
    assert ask_mode(turn(), "chat") == "chat"
    assert ask_mode(turn(), "agent") == "agent"


def test_the_name_of_a_speaker_is_a_loss() -> None:
    named = Message(role="user", parts=(TextPart("Hi"),), name="Ada")
    result = ToolResult(call_id="c1", parts=(), name="find")
    assert losses_of(turn(said("system", "x"), named, result), ToolPolicy()) == [
        Loss("messages.1.name", "unsupported")
    ]


def test_what_lingma_cannot_honour_is_a_loss() -> None:
    image = Message(role="user", parts=(TextPart("look"), MediaPart(kind="image", url="x")))
    subject = turn(
        image,
        sampling=Sampling(temperature=0.0, stop=("x",)),
        output_format=OutputFormat(kind="json_object"),
        reasoning=ReasoningRequest(effort="high", budget_tokens=1024),
        tools=(FIND,),
    )
    losses = {str(loss) for loss in losses_of(subject, ToolPolicy(forward=False))}
    assert losses >= {
        "temperature:unsupported",
        "stop:unsupported",
        "reasoning_effort:unsupported",
        "reasoning_budget:unsupported",
        "response_format:asked-in-prompt",
        "tools:not-forwarded",
    }
    assert any(loss.startswith("messages.0.content.1") for loss in losses)
    assert losses_of(turn(said("user", "Hi")), ToolPolicy()) == []


def test_json_is_asked_for_behind_the_newest_words() -> None:
    wanted = OutputFormat(kind="json_schema", schema={"type": "object"})
    alone = ask(turn(said("user", "Hi"), output_format=wanted))["questionText"]
    assert isinstance(alone, str)
    assert alone.startswith("Hi\n\nAnswer with exactly one JSON value")
    assert alone.endswith('{"type":"object"}')
    history = (said("user", "Hi"), said("assistant", "Yo"), said("user", "Bye"))
    reply = ask(turn(*history, output_format=wanted), is_reply=True)["questionText"]
    assert str(reply).startswith("Bye\n\nAnswer with exactly one JSON value")


def test_json_is_asked_for_in_a_paragraph_of_its_own_after_a_tool_result() -> None:
    items = (
        said("user", "a"),
        ToolCall(call_id="c", name="f", arguments="{}"),
        ToolResult(call_id="c", parts=()),
    )
    prompt = ask(turn(*items, output_format=OutputFormat(kind="json_object")))["questionText"]
    assert "\n\nuser: Answer with exactly one JSON value" in str(prompt)


def test_a_custom_tool_is_offered_as_a_function_with_one_text() -> None:
    tool = ToolSpec(name="sh", kind="custom", raw={"type": "custom", "name": "sh"})
    params = ask(turn(said("user", "a"), tools=(tool,)), tools=(tool,))
    (offered,) = params["tools"]  # type: ignore[misc]
    assert offered["function"]["parameters"]["properties"] == {"input": {"type": "string"}}  # type: ignore[index]


def test_a_forced_choice_is_a_loss_and_a_wish_for_no_tools_is_none() -> None:
    asked = said("user", "Hi")
    for choice in (ToolChoice("required"), ToolChoice("named", ("find",))):
        losses = {
            str(loss) for loss in losses_of(turn(asked, tools=(FIND,), tool_choice=choice), ToolPolicy())
        }
        assert losses == {"tools:calls-not-returned", "tool_choice:unsupported"}
    assert losses_of(turn(asked, tools=(FIND,), tool_choice=NONE), ToolPolicy()) == []
