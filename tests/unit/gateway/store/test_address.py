import dataclasses

import pytest

from gateway.store.address import StoreAddress, parse_redis_url, with_password

SECRET = "s3cret/pw?#@:%"
ENCODED = "s3cret%2Fpw%3F%23%40%3A%25"


def test_memory() -> None:
    assert parse_redis_url("memory://") == StoreAddress(kind="memory")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", StoreAddress(kind="standalone", hosts=(("cache", 6379),))),
        ("redis://cache:6380/3", StoreAddress(kind="standalone", hosts=(("cache", 6380),), db=3)),
        ("redis://cache?db=4", StoreAddress(kind="standalone", hosts=(("cache", 6379),), db=4)),
        ("redis://[::1]:6380", StoreAddress(kind="standalone", hosts=(("::1", 6380),))),
        ("redis://[::1]", StoreAddress(kind="standalone", hosts=(("::1", 6379),))),
        ("REDISS://cache", StoreAddress(kind="standalone", tls=True, hosts=(("cache", 6379),))),
        (" redis://cache/\n", StoreAddress(kind="standalone", hosts=(("cache", 6379),))),
        (
            f"redis://:{ENCODED}@cache",
            StoreAddress(kind="standalone", hosts=(("cache", 6379),), password=SECRET),
        ),
        (
            f"redis://us%40er:{ENCODED}@cache",
            StoreAddress(kind="standalone", hosts=(("cache", 6379),), username="us@er", password=SECRET),
        ),
        (
            f"redis://cache?username=u&password={ENCODED}",
            StoreAddress(kind="standalone", hosts=(("cache", 6379),), username="u", password=SECRET),
        ),
        ("unix:///run/redis.sock", StoreAddress(kind="standalone", path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=2", StoreAddress(kind="standalone", path="/run/redis.sock", db=2)),
        (
            "redis+sentinel://:pw@s1,s2:26380/mymaster/2?sentinel_password=sp&sentinel_username=su",
            StoreAddress(
                kind="sentinel",
                hosts=(("s1", 26379), ("s2", 26380)),
                service="mymaster",
                db=2,
                password="pw",
                sentinel_username="su",
                sentinel_password="sp",
            ),
        ),
        (
            "rediss+sentinel://s1/main",
            StoreAddress(kind="sentinel", tls=True, hosts=(("s1", 26379),), service="main"),
        ),
        (
            "redis+cluster://n1,n2:7001/",
            StoreAddress(kind="cluster", hosts=(("n1", 6379), ("n2", 7001))),
        ),
        (
            "rediss+cluster://n1?ssl_ca_certs=/ca.pem&ssl_check_hostname=false&ssl_cert_reqs=none",
            StoreAddress(
                kind="cluster",
                tls=True,
                hosts=(("n1", 6379),),
                options={"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False, "ssl_cert_reqs": "none"},
            ),
        ),
    ],
)
def test_what_a_url_names(url: str, expected: StoreAddress) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "begin with"),
        ("localhost:6379", "begin with"),
        ("http://cache", "begin with"),
        ("memory://x", "memory"),
        ("redis://", "host"),
        ("redis://:6379", "host"),
        ("redis+cluster://a,,b", "host"),
        ("redis://cache:http", "port"),
        ("redis://cache:70000", "port"),
        ("redis://cache:0", "port"),
        ("redis://cache/one", "database"),
        ("redis://cache/1/2", "too many parts"),
        ("redis://cache?db=x", "db"),
        ("redis://cache?socket_timeout=5", "unknown option"),
        ("redis://cache?ssl_ca_certs=/ca.pem", "unknown option"),
        ("rediss://cache?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://cache?ssl_check_hostname=maybe", "ssl_check_hostname"),
        ("redis+sentinel://s1", "service"),
        ("redis+sentinel://s1/", "service"),
        ("redis+cluster://n1/1", "database 0"),
        ("unix://", "socket"),
        ("redis://[::1", "hosts"),
    ],
)
def test_what_is_wrong_is_named(url: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret/pw@cache:6379",
        "redis://user:s3cret?pw@cache",
        "redis://user:12?s3cret@cache",
        "redis://:s3cret#pw@cache",
        "redis://:s3cret@cache:port",
        "redis://:s3cret@cache?s3cret=1",
        "redis://:s3cret\u2100@cache",
        "http://:s3cret@cache",
    ],
)
def test_an_error_never_repeats_a_password(url: str) -> None:
    with pytest.raises(ValueError, match="store URL") as failure:
        parse_redis_url(url)
    assert "s3cret" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None or failure.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("memory://", "memory://"),
        (f"redis://user:{ENCODED}@cache/2", "redis://user:***@cache:6379/2"),
        (f"redis://:{ENCODED}@cache", "redis://:***@cache:6379"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        (
            "rediss+sentinel://:s3cret@a,b/main/1?sentinel_password=s3cret&ssl_password=s3cret",
            "rediss+sentinel://:***@a:26379,b:26379/main/1",
        ),
        ("redis+cluster://a", "redis+cluster://a:6379"),
    ],
)
def test_the_redacted_form_has_no_secret(url: str, redacted: str) -> None:
    address = parse_redis_url(url)
    assert address.redacted() == redacted
    assert "s3cret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache:6379/1", "redis://:p%40%3A%2F%3F%25@cache:6379/1"),
        ("redis://ann@cache", "redis://ann:p%40%3A%2F%3F%25@cache"),
        ("redis://ann:@cache", "redis://ann:p%40%3A%2F%3F%25@cache"),
        ("rediss://cache?ssl_ca_certs=/a@b", "rediss://:p%40%3A%2F%3F%25@cache?ssl_ca_certs=/a@b"),
        (
            "redis+sentinel://a,b/mine?sentinel_password=x",
            "redis+sentinel://:p%40%3A%2F%3F%25@a,b/mine?sentinel_password=x",
        ),
        ("unix:///run/redis.sock?db=2", "unix://:p%40%3A%2F%3F%25@/run/redis.sock?db=2"),
        ("redis://ann:own@cache", "redis://ann:own@cache"),
        ("redis://cache?password=own", "redis://cache?password=own"),
        ("memory://", "memory://"),
    ],
)
def test_a_password_of_its_own_goes_into_an_address_without_one(url: str, expected: str) -> None:
    assert with_password(url, "p@:/?%") == expected
    before = parse_redis_url(url)
    wanted = before.password or ("" if before.kind == "memory" else "p@:/?%") or None
    assert parse_redis_url(expected) == dataclasses.replace(before, password=wanted)
    assert with_password(url, "") == url
