from gateway.store.connect import connect
from gateway.store.scripts import Script, with_hidden_keys

TELL = Script("tell", "return {#KEYS, KEYS[1] or '', KEYS[2] or '', #ARGV, ARGV[1] or ''}")


def test_a_script_of_the_package_is_read_by_its_name() -> None:
    assert "KEYS[1]" in Script("cas").text
    assert len(Script("cas").sha1) == 40


async def test_hidden_keys_are_keys_to_the_script(redis_url: str) -> None:
    async with connect(redis_url) as redis:
        named = await redis.run(TELL, [b"a", b"b"], ["x"])
        assert named == [2, b"a", b"b", 1, b"x"]
        hidden = with_hidden_keys(TELL, 1)
        assert await redis.run(hidden, [b"a"], [b"b", "x"]) == named


def test_the_other_form_is_made_once() -> None:
    assert with_hidden_keys(TELL, 1) is with_hidden_keys(TELL, 1)
    assert with_hidden_keys(TELL, 1).sha1 != with_hidden_keys(TELL, 2).sha1
