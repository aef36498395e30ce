import pytest

from gateway.access.keys import OPEN, KeyRing
from gateway.access.tiers import BEARER, KEY_OR_BEARER, Tiers, presented_keys
from gateway.kernel.errors import Disabled, Unauthenticated

KEYS = KeyRing.from_csv("k-a, k-b")


def test_lv_84_a_good_bearer_passes_and_others_do_not() -> None:
    """Given `Bearer good`: passes; bad or missing: 401 `invalid_api_key` (an Unauthenticated here)."""
    tiers = Tiers(KeyRing.from_csv("good"))
    assert tiers.client(presented_keys([(b"authorization", b"Bearer good")], BEARER)).key_id != "-"
    for headers in ([(b"authorization", b"Bearer bad")], [(b"authorization", b"Basic good")], []):
        with pytest.raises(Unauthenticated):
            tiers.client(presented_keys(headers, BEARER))


def test_lv_46_the_admin_token_alone_opens_the_admin_tier() -> None:
    """Given API_KEYS "k-a, k-b" and ADMIN_TOKEN "adm": k-a is refused, adm passes. With ADMIN_TOKEN unset
    k-b passes. All unset: 503.
    """
    with_token = Tiers(KEYS, admin_token="adm")
    with pytest.raises(Unauthenticated, match="Invalid admin token"):
        with_token.admin([b"k-a"])
    with_token.admin([b"adm"])
    Tiers(KEYS).admin([b"k-b"])
    with pytest.raises(Disabled):
        Tiers(KeyRing()).admin([b"adm"])


def test_lv_47_metrics_are_closed_unless_configured_or_public() -> None:
    """Given nothing configured: 503 code metrics_disabled; with METRICS_PUBLIC=true: open."""
    with pytest.raises(Disabled, match=r"^metrics scraping disabled$") as caught:
        Tiers(KeyRing()).metrics([])
    assert caught.value.code == "metrics_disabled"
    Tiers(KeyRing(), metrics_public=True).metrics([])


def test_the_metrics_token_alone_opens_metrics_when_it_is_set() -> None:
    tiers = Tiers(KEYS, metrics_token="met")
    tiers.metrics([b"met"])
    for presented in ([b"k-a"], []):
        with pytest.raises(Unauthenticated):
            tiers.metrics(presented)
    Tiers(KEYS).metrics([b"k-a"])


def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(Disabled):
        Tiers(KeyRing(), admin_token="").admin([b""])


def test_without_keys_every_client_is_the_open_tenant() -> None:
    tiers = Tiers(KeyRing())
    assert tiers.client([]) is OPEN
    assert tiers.client([b"anything"]) is OPEN


def test_one_good_key_among_those_presented_is_enough() -> None:
    headers = [(b"x-api-key", b"wrong"), (b"authorization", b"Bearer k-b")]
    assert Tiers(KEYS).client(presented_keys(headers, KEY_OR_BEARER)) == KEYS.find(b"k-b")


@pytest.mark.parametrize(
    ("headers", "names", "keys"),
    [
        ([(b"authorization", b"bearer  k ")], BEARER, [b"k"]),
        ([(b"authorization", b"Bearer ")], BEARER, []),
        ([(b"authorization", b"k")], BEARER, []),
        ([(b"x-api-key", b" k1 ")], BEARER, []),
        ([(b"authorization", b"Bearer k2"), (b"x-api-key", b" k1 ")], KEY_OR_BEARER, [b"k1", b"k2"]),
    ],
)
def test_keys_are_read_from_the_headers_of_the_protocol(
    headers: list[tuple[bytes, bytes]], names: tuple[bytes, ...], keys: list[bytes]
) -> None:
    assert presented_keys(headers, names) == keys


def test_the_message_tells_a_missing_key_from_a_wrong_one() -> None:
    with pytest.raises(Unauthenticated, match="No API key"):
        Tiers(KEYS).client([])
    with pytest.raises(Unauthenticated, match="Incorrect API key"):
        Tiers(KEYS).client([b"sk-wrong"])
