from typing import Any

import pytest

from gateway.kernel.errors import COMPACTION_UNSUPPORTED, ErrorKind
from gateway.kernel.json import dumps
from gateway.upstreams.codex.compaction import is_compacted, judged, wanted_types
from gateway.upstreams.codex.errors import classify, read_error
from gateway.upstreams.faults import Fault

TOKEN = {"type": "compaction", "encrypted_content": "gAAAA"}
OLD_TOKEN = {"type": "context_compaction", "encrypted_content": "gAAAA"}
SAID: dict[str, Any] = {"type": "message", "content": []}


def compacted(*output: Any, trigger: Any = None) -> bool:
    types = wanted_types({"input": ["a", trigger or {"type": "compaction_trigger"}]})
    return is_compacted([dumps(item) for item in output], types)


def test_exactly_one_item_of_the_triggers_vocabulary_comes_back() -> None:
    assert compacted(TOKEN)
    assert compacted(SAID, {**TOKEN, "type": "compaction_summary"}, SAID)
    assert compacted(OLD_TOKEN, trigger={"type": "context_compaction"})


@pytest.mark.parametrize(
    "output",
    [
        [],
        [SAID],
        [TOKEN, TOKEN],
        [{"type": "compaction"}],
        [{**TOKEN, "encrypted_content": None}],
        [OLD_TOKEN],
    ],
)
def test_cv_46_cv_48_anything_else_is_no_compaction(output: list[Any]) -> None:
    """CV-46, CV-48. Given an answer of the other vocabulary, or two compaction items, none, or one without
    encrypted content: clients take it for fatal, so it is not told.
    """
    assert not compacted(*output)


def test_cv_47_the_older_vocabulary_wants_its_own_item() -> None:
    """CV-47. Given the trigger `context_compaction`, an answer `compaction` is none."""
    assert not compacted(TOKEN, trigger={"type": "context_compaction"})
    assert is_compacted([dumps(OLD_TOKEN)]), "the endpoint has no trigger, and takes either"


def fault(status: int, **error: Any) -> Fault:
    return judged(classify(read_error(dumps({"error": error}), status), now_s=0), status)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_rp_97_an_endpoint_that_is_missing_rests_nobody(status: int) -> None:
    """RP-97. Given a 404 of `/responses/compact`: returned, and the credential stays available."""
    found = fault(status, message="no such model endpoint")
    assert (found.again, found.rest) == ("no", None)
    assert (found.info.kind, found.info.code) == (ErrorKind.INVALID_REQUEST, COMPACTION_UNSUPPORTED)


@pytest.mark.parametrize(
    ("status", "again"), [(400, "no"), (413, "no"), (422, "no"), (500, "next"), (503, "next")]
)
def test_faults_of_the_endpoint_rest_nobody(status: int, again: str) -> None:
    found = fault(status, message="x")
    assert (found.again, found.rest) == (again, None)


def test_an_item_that_is_missing_is_no_endpoint_that_is_missing() -> None:
    found = fault(404, message="Item with id 'rs_1' not found.")
    assert (found.name, found.again, found.rest) == ("item_missing", "no", None)


@pytest.mark.parametrize("status", [401, 403, 429])
def test_faults_of_the_credential_rest_it(status: int) -> None:
    assert fault(status, message="x").rest is not None
