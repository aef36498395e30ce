"""Becomes the program it is told to start, after asking the kernel to kill it when its parent dies.

Run as a file, `python -S -E launcher.py PARENT_PID PROGRAM ARG…`, in place of a preexec function: code
between fork and exec of a process with threads may deadlock. The process id stays the same. What counts as
the parent is the thread that started it: the one of the event loop, which has to be the main one. Where the
kernel has no such service (it is Linux'), the program simply starts. Called by process.py.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    parent, program = int(argv[1]), argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv)
