"""Hosts of a local Ray cluster: an address for each node, and ways to cut one off.

`Namespaces` gives every node a network and a process tree of its own, as machines have; it needs root and
Linux. `Loopback` gives them addresses of this machine, which is enough for everything but a partition.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from offline.local.processes import Command

# 198.18.0.0/15 is kept for tests of networks (RFC 2544), so that it is nobody's real address.
_NETWORK = "198.18.{}.{}"
_BRIDGE_HOST = 1
_FIRST_HOST = 2
# Names of network interfaces have 15 characters at most.
_PREFIX = "ns{}"
_NAMESPACE_FILES = Path("/etc/netns")


class Hosts(Protocol):
    """Addresses by the node's name.

    `gateway` is where programs outside the nodes listen for them, `bind` where the nodes' own HTTP servers
    listen, and `reach` where those are found.
    """

    gateway: str
    bind: str

    def reach(self, node: str) -> str:
        """Address of the node's HTTP servers, for programs outside the nodes."""
        ...

    def address(self, node: str) -> str:
        """IP address of the node."""
        ...

    def host_name(self, node: str) -> str:
        """By which the other nodes reach it, wherever it is; where there are no names, its address."""
        ...

    def move(self, node: str) -> None:
        """Give the node, which must not be running, another address."""
        ...

    def on(self, node: str, command: Command) -> Command:
        """The command, to be run on the node."""
        ...

    def close(self) -> None:
        """Remove what was made."""
        ...


class Loopback:
    """Every node has an address in 127.0.0.0/8."""

    gateway = "127.0.0.1"
    bind = "127.0.0.1"

    def reach(self, node: str) -> str:  # noqa: ARG002
        """See `Hosts`."""
        return self.bind

    def __init__(self, nodes: Sequence[str]) -> None:
        self._next = _FIRST_HOST
        self._addresses: dict[str, str] = {}
        for node in nodes:
            self.move(node)

    def address(self, node: str) -> str:
        """See `Hosts`."""
        return self._addresses[node]

    def host_name(self, node: str) -> str:
        """See `Hosts`."""
        return self._addresses[node]

    def move(self, node: str) -> None:
        """See `Hosts`."""
        self._addresses[node] = f"127.0.0.{self._next}"
        self._next += 1

    def on(self, node: str, command: Command) -> Command:  # noqa: ARG002
        """See `Hosts`."""
        return command

    def close(self) -> None:
        """See `Hosts`."""


class Namespaces:
    """Every node has a network namespace on one bridge, and a process namespace that dies as a whole."""

    bind = "0.0.0.0"

    def reach(self, node: str) -> str:
        """See `Hosts`."""
        return self._addresses[node]

    @staticmethod
    def possible() -> bool:
        """Whether this user may make namespaces here."""
        if os.name != "posix" or os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
            return False
        probe = f"ns-probe-{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
        process_namespace = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "true"]
        return (
            made.returncode == 0
            and subprocess.run(process_namespace, capture_output=True, check=False).returncode == 0
        )

    def __init__(self, nodes: Sequence[str]) -> None:
        _remove_leftovers()
        self._id = os.getpid()
        self._bridge = f"{_PREFIX.format(self._id)}br"
        self._subnet = _free_subnet()
        self._next = _FIRST_HOST
        self._number = {node: number for number, node in enumerate(nodes)}
        self._addresses: dict[str, str] = {}
        self.gateway = _NETWORK.format(self._subnet, _BRIDGE_HOST)
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.gateway}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for node in nodes:
                self._add(node)
        except BaseException:
            self.close()
            raise

    def address(self, node: str) -> str:
        """See `Hosts`."""
        return self._addresses[node]

    def host_name(self, node: str) -> str:
        """See `Hosts`."""
        return node

    def move(self, node: str) -> None:
        """See `Hosts`."""
        namespace = self._namespace(node)
        if node in self._addresses:
            _ip("-n", namespace, "address", "del", f"{self._addresses[node]}/24", "dev", "eth0")
        self._addresses[node] = _NETWORK.format(self._subnet, self._next)
        self._next += 1
        _ip("-n", namespace, "address", "add", f"{self._addresses[node]}/24", "dev", "eth0")
        self._tell_names()

    def on(self, node: str, command: Command) -> Command:
        """See `Hosts`. The program is process 1 of the node; when it ends, so does everything on it."""
        namespace = ["ip", "netns", "exec", self._namespace(node)]
        unshare = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--kill-child=SIGKILL"]
        return replace(command, argv=[*namespace, *unshare, *command.argv])

    def cut_off(self, node: str) -> None:
        """Drop every packet to and from the node without a word, as a broken network does."""
        subprocess.run(["bridge", "link", "set", "dev", self._port(node), "state", "0"], check=True)

    def reconnect(self, node: str) -> None:
        """End what `cut_off` began."""
        subprocess.run(["bridge", "link", "set", "dev", self._port(node), "state", "3"], check=True)

    def close(self) -> None:
        """See `Hosts`."""
        for node in self._number:
            # The kernel takes a namespace and what is in it away later, and the next one may want its names.
            with suppress(subprocess.CalledProcessError):
                _ip("link", "del", self._port(node))
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self._namespace(node))
            shutil.rmtree(_NAMESPACE_FILES / self._namespace(node), ignore_errors=True)
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)

    def _tell_names(self) -> None:
        # `ip netns exec` shows these files as /etc/hosts. They are written in place, for running programs.
        lines = ["127.0.0.1 localhost", *(f"{self._addresses[node]} {node}" for node in self._addresses)]
        for node in self._addresses:
            file = _NAMESPACE_FILES / self._namespace(node) / "hosts"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n")

    def _add(self, node: str) -> None:
        namespace, port = self._namespace(node), self._port(node)
        _ip("netns", "add", namespace)
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", port, "master", self._bridge)
        _ip("link", "set", port, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        self.move(node)

    def _namespace(self, node: str) -> str:
        return f"{_PREFIX.format(self._id)}-{node}"

    def _port(self, node: str) -> str:
        return f"{_PREFIX.format(self._id)}p{self._number[node]}"


def _ip(*arguments: str) -> str:
    try:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr.strip())
        raise


def _free_subnet() -> int:
    addresses = _ip("-o", "address")
    return next(n for n in range(256) if _NETWORK.format(n, _BRIDGE_HOST) + "/" not in addresses)


def _remove_leftovers() -> None:
    """Remove namespaces and bridges of programs that were killed before they could."""
    head = _PREFIX.format("")
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(head).partition("-")[0]
        if name.startswith(head) and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _ip("netns", "del", name)
            shutil.rmtree(_NAMESPACE_FILES / name, ignore_errors=True)
    for line in _ip("-o", "link", "show", "type", "bridge").splitlines():
        name = line.split(":")[1].strip()
        owner = name.removeprefix(head).removesuffix("br")
        if name.startswith(head) and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            _ip("link", "del", name)
