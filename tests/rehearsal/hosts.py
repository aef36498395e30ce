"""Hosts with nothing in common but a wire: network namespaces around one bridge, which has one of its own.

They have no names in the file system. Each lives as long as this process holds it or something runs in it, so
that nothing is left behind however the tests end, and the network of the machine itself is never touched.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from functools import cache

import pytest

from tests.images.builder import need, run

NET = "10.77.0"
PREFIX = 24
_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"


def need_hosts() -> None:
    """Skip where there cannot be any."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces take root on Linux")
    need({"ip": "iproute2", "haproxy": "haproxy"})
    try:
        os.close(_new_namespace())
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error.strerror}")


class Host:
    """A network stack with one interface, `eth0`."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{NET}.{number}"
        self._namespace = _new_namespace()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread opens and starts in the block is on this host. What is open already stays."""
        before = os.open(_OWN, os.O_RDONLY)
        try:
            _enter(self._namespace)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    @property
    def path(self) -> str:
        """For programs that look for a namespace in the file system."""
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    def ip(self, *words: str) -> None:
        with self.inside():
            run("ip", *words)

    def close(self) -> None:
        os.close(self._namespace)


class Wire:
    """A bridge, and the hosts that are plugged into it."""

    def __init__(self) -> None:
        self._switch = Host("switch", 254)
        self._hosts: list[Host] = []
        self._switch.ip("link", "add", "name", "bridge", "type", "bridge")
        self._switch.ip("link", "set", "dev", "bridge", "up")

    def host(self, name: str) -> Host:
        host = Host(name, len(self._hosts) + 1)
        self._hosts.append(host)
        switch = self._switch
        peer = ("peer", "name", "eth0", "netns", host.path)
        switch.ip("link", "add", "name", name, "type", "veth", *peer)
        switch.ip("link", "set", "dev", name, "master", "bridge", "up")
        host.ip("link", "set", "dev", "lo", "up")
        host.ip("address", "add", f"{host.address}/{PREFIX}", "dev", "eth0")
        host.ip("link", "set", "dev", "eth0", "up")
        return host

    def unplug(self, host: Host) -> None:
        """Nobody is told: what the host sends and what it is sent gets lost."""
        self._switch.ip("link", "set", "dev", host.name, "nomaster")

    def plug(self, host: Host) -> None:
        self._switch.ip("link", "set", "dev", host.name, "master", "bridge")

    def close(self) -> None:
        for host in (*self._hosts, self._switch):
            host.close()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(namespace: int) -> None:
    _call("setns", namespace, _CLONE_NEWNET)


def _new_namespace() -> int:
    """A descriptor of a network namespace that nobody is in."""
    before = os.open(_OWN, os.O_RDONLY)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            return os.open(_OWN, os.O_RDONLY)
        finally:
            _enter(before)
    finally:
        os.close(before)
