import hashlib
from pathlib import Path

import pytest

from gateway.access.keys import (
    OPEN,
    ApiKey,
    KeyRing,
    Principal,
    hash_key,
    read_key_file,
    split_list,
    tenant_of,
)


def test_lv_29_tenants_are_scoped_by_the_key() -> None:
    """Given API key `sk-blue-42`, and no key: expect `395812e6b5c6` and `3bc15c8aae3e`."""
    assert tenant_of(b"sk-blue-42") == "395812e6b5c6"
    assert OPEN.tenant == "3bc15c8aae3e"
    principal = KeyRing.from_csv("sk-blue-42").find(b"sk-blue-42")
    assert principal is not None
    assert principal.tenant == "395812e6b5c6"


def test_a_key_is_found_among_several_and_named_by_its_digest() -> None:
    ring = KeyRing.from_csv("k-a, k-b\n,k-c,")
    for key in ("k-a", "k-b", "k-c"):
        principal = ring.find(key.encode())
        assert principal == Principal(
            tenant=tenant_of(key.encode()), key_id=hashlib.sha256(key.encode()).hexdigest()[:8]
        )


@pytest.mark.parametrize("presented", [b"", b"k-", b"k-aa", b"K-A", b" k-a", b"\xff\xfe", "k-ä".encode()])
def test_nothing_but_the_whole_key_is_found(presented: bytes) -> None:
    assert KeyRing.from_csv("k-a").find(presented) is None


def test_keys_beyond_ascii_work() -> None:
    assert KeyRing.from_csv("schlüssel").find("schlüssel".encode()) is not None


def test_an_empty_ring_is_false_and_finds_nobody() -> None:
    ring = KeyRing.from_csv(" , \n")
    assert not ring
    assert ring.find(b"") is None


def test_every_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def count(left: bytes, right: bytes) -> bool:
        nonlocal compared
        compared += 1
        return left == right

    monkeypatch.setattr("gateway.access.keys.hmac.compare_digest", count)
    assert KeyRing.from_csv("k-a,k-b,k-c").find(b"k-a") is not None
    assert compared == 3


def test_keys_are_not_kept() -> None:
    ring = KeyRing.from_csv("sk-secret")
    assert "sk-secret" not in repr(vars(ring))


def test_a_list_is_split_at_commas_and_lines() -> None:
    assert split_list(" grep ,\n ,edit") == ["grep", "edit"]


def test_a_key_may_be_bound_to_models() -> None:
    bound = Principal(tenant="t", key_id="k", models=("a",))
    assert (bound.may_use("a"), bound.may_use("b"), OPEN.may_use("b")) == (True, False, True)


# -- the key file -----------------------------------------------------------------------------------------


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(text)
    return path


def test_the_key_file_gives_keys_with_tenant_and_limits(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f'{{"keys": [{{"sha256": "{hash_key("k-a")}", "tenant": "blue",'
        ' "max_in_flight": 2, "models": ["m"]}, {"key": "k-b"}]}',
    )
    ring = KeyRing([*read_key_file(path), ApiKey.of("k-c")])
    assert ring.find(b"k-a") == Principal(
        tenant="blue", key_id=hash_key("k-a")[:8], max_in_flight=2, models=("m",)
    )
    found = ring.find(b"k-b")
    assert found is not None
    assert found.tenant == tenant_of(b"k-b")
    assert ring.find(b"k-c") is not None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"keys": [{"tenant": "a"}]}', "keys.0"),
        ('{"keys": [{"key": "sk-s3cret", "sha256": "' + "0" * 64 + '"}]}', "keys.0"),
        ('{"keys": [{"sha256": "sk-s3cret"}]}', "keys.0.sha256"),
        ('{"keys": [{"key": "sk-s3cret", "tennant": "a"}]}', "keys.0.tennant"),
        ('{"keys": [{"key": "sk-s3cret", "tenant": "a b"}]}', "keys.0.tenant"),
        ('{"keys": [{"key": "sk-s3cret", "max_in_flight": -1}]}', "keys.0.max_in_flight"),
        ('{"keys": "sk-s3cret', "file"),
    ],
)
def test_a_wrong_key_file_is_refused_by_place_and_without_its_values(
    tmp_path: Path, text: str, place: str
) -> None:
    with pytest.raises(ValueError, match=f"keys.json: {place}: ") as caught:
        read_key_file(write(tmp_path, text))
    assert "s3cret" not in str(caught.value)
