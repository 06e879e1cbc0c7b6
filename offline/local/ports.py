"""TCP ports: refuse the ones that are taken before anything starts, and pick free ones for Ray's own use."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Endpoint:
    """An address that users talk to, and the flag that changes its port."""

    host: str
    port: int
    flag: str

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host == "localhost" or self.host.startswith("127.")


def conflicts(endpoints: Mapping[str, Endpoint]) -> list[str]:
    """One sentence for each endpoint (by its name for people) that cannot be opened."""
    findings: list[str] = []
    taken: dict[int, str] = {}
    for name, endpoint in endpoints.items():
        if endpoint.port in taken:
            findings.append(
                f"port {endpoint.port} is asked for twice, by the {taken[endpoint.port]} and the {name}; "
                f"choose another one with {endpoint.flag} PORT"
            )
        elif reason := _why_not(endpoint):
            findings.append(
                f"port {endpoint.port} for the {name} {reason}; choose another one with {endpoint.flag} PORT"
            )
        taken.setdefault(endpoint.port, name)
    return findings


def free_ports(count: int, host: str) -> list[int]:
    """Ports that nobody listens on at the moment, all different."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind((host, 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _why_not(endpoint: Endpoint) -> str | None:
    try:
        # `create_server` sets SO_REUSEADDR (a closed connection's remains do not count), not SO_REUSEPORT.
        socket.create_server((endpoint.host, endpoint.port)).close()
    except OSError as error:
        holder = _holder(endpoint.port)
        return (
            f"is in use by {holder}" if holder else f"on {endpoint.host} cannot be opened ({error.strerror})"
        )
    return None


def _holder(port: int) -> str | None:
    """The process that listens on the port, if the operating system lets us know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and getattr(connection.laddr, "port", None) == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None
