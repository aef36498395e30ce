from gateway.kernel.ids import TurnId, derived_hex, derived_uuid, new_hex, new_turn_id


def test_turn_ids_sort_by_time_and_differ() -> None:
    earlier, later = new_turn_id(1_790_000_000_000), new_turn_id(1_790_000_000_001)
    assert earlier < later
    assert len(earlier) == 26
    assert new_turn_id(5) != new_turn_id(5)


def test_derived_ids_depend_on_turn_and_path_alone() -> None:
    turn = TurnId("t")
    assert derived_hex(turn, "item", 0) == derived_hex(turn, "item", 0)
    assert derived_hex(turn, "item", 0) != derived_hex(turn, "item", 1)
    assert derived_hex(turn, 1, "1") == derived_hex(turn, "1", 1)
    assert derived_hex(turn, "a", "b") != derived_hex(turn, "ab")


def test_derived_uuids_are_version_8() -> None:
    value = derived_uuid("t", "ask", 1)
    assert value == derived_uuid("t", "ask", 1)
    assert (len(value), value[14], value[19] in "89ab") == (36, "8", True)


def test_random_hex_has_the_length_asked_for() -> None:
    assert [len(new_hex(n)) for n in (1, 6, 7)] == [1, 6, 7]
