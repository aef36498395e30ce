from pathlib import Path

import pytest

from workers.lingma.discovery import Info, forget_info, read_info


@pytest.mark.parametrize(
    "content", ["36599\n", "abc\n12", "", None, "36599\nx", "70000\n12", "0\n1", "36599\n0"]
)
def test_lv_15_unusable_text_is_not_ready(tmp_path: Path, content: str | None) -> None:
    """LV-15: given `.info` = "36599\\n" (one line), "abc\\n12", empty or missing, expect not ready."""
    path = tmp_path / ".info"
    if content is not None:
        path.write_text(content)
    assert read_info(path) is None


def test_lv_16_spaces_and_a_third_line(tmp_path: Path) -> None:
    """LV-16: given `.info` = " 36599 \\n 812 \\nlingma.sock\\n", expect port 36599 and pid 812."""
    path = tmp_path / ".info"
    path.write_text(" 36599 \n 812 \nlingma.sock\n")
    assert read_info(path) == Info(port=36599, pid=812)


def test_json_form(tmp_path: Path) -> None:
    path = tmp_path / ".info.json"
    path.write_text('{"websocketPort":36512,"pid":4711,"ipcServerPath":"x","isDev":false}')
    assert read_info(path) == Info(36512, 4711)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"websocketPort":"36512","pid":1}', '{"websocketPort":1}']
)
def test_unusable_json_is_not_ready(tmp_path: Path, content: str) -> None:
    path = tmp_path / ".info.json"
    path.write_text(content)
    assert read_info(path) is None


def test_binary_garbage_and_a_directory_are_not_ready(tmp_path: Path) -> None:
    path = tmp_path / ".info"
    path.write_bytes(b"\xff\xfe\n\x00")
    assert read_info(path) is None
    assert read_info(tmp_path) is None


def test_forgetting_removes_both_forms(tmp_path: Path) -> None:
    (tmp_path / ".info").write_text("1\n1")
    (tmp_path / ".info.json").write_text("{}")
    forget_info(tmp_path)
    forget_info(tmp_path)
    assert list(tmp_path.iterdir()) == []
