import os
import subprocess
import sys

import pytest

from workers.lingma.launcher import main
from workers.lingma.process import LAUNCHER

READ_DEATH_SIGNAL = """
import ctypes, os, sys
signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0)
print(os.getpid(), signal.value, sys.argv[1:])
"""


def launch(parent: int, *program: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-S", "-E", str(LAUNCHER), str(parent), *program], capture_output=True, check=False
    )


def test_program_runs_with_its_arguments_and_dies_with_its_parent() -> None:
    result = launch(os.getpid(), sys.executable, "-c", READ_DEATH_SIGNAL, "a b", "")
    assert result.stdout.split(b" ", 1)[1] == b"9 ['a b', '']\n", result.stderr


def test_orphan_does_not_start() -> None:
    result = launch(1, sys.executable, "-c", "print('started')")
    assert (result.returncode, result.stdout) == (1, b"")


def test_program_that_is_not_there_is_an_error() -> None:
    assert launch(os.getpid(), "/absent/program").returncode != 0


def test_it_becomes_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[object] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "execv", lambda *call: became.append(call))
    main(["launcher.py", "1", "/bin/x", "y"])
    assert became == [("/bin/x", ["/bin/x", "y"])]
