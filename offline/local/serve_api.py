"""Ray and Ray Serve through the REST API of the Ray dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from offline.local.errors import LocalRunError

# The first deployment waits until Serve's own processes have started.
_DEPLOY_TIMEOUT_S = 180


@dataclass(frozen=True)
class ServeStatus:
    """Applications and their proxies at one moment; `applications` maps a name to a status."""

    applications: dict[str, str]
    messages: dict[str, str]
    proxies: list[str]

    @property
    def serving(self) -> bool:
        """Whether requests are answered. RUNNING can come before the proxies are up, so both count."""
        statuses = [*self.applications.values()]
        proxies_up = bool(self.proxies) and all(status == "HEALTHY" for status in self.proxies)
        return bool(statuses) and all(status == "RUNNING" for status in statuses) and proxies_up

    @property
    def failed(self) -> bool:
        """Whether Serve has given an application up; every other status may change by waiting."""
        return "DEPLOY_FAILED" in self.applications.values()

    def words(self) -> str:
        """What the applications say about it."""
        return "\n".join(message for message in self.messages.values() if message)

    def summary(self) -> str:
        """One line, such as `smollm2: DEPLOYING`."""
        if self.applications and not self.serving and set(self.applications.values()) == {"RUNNING"}:
            return "applications RUNNING, HTTP proxies " + ", ".join(sorted(self.proxies))
        return (
            ", ".join(f"{name}: {status}" for name, status in self.applications.items()) or "no application"
        )


class RayApi:
    """Client of one Ray head. `token` is Ray's own authentication token."""

    def __init__(self, dashboard_url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=dashboard_url, headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )

    def ready(self) -> bool:
        """Whether the API answers."""
        try:
            return self._client.get("/api/version", timeout=5).is_success
        except httpx.TransportError:
            return False

    def alive_nodes(self) -> int:
        """Ray nodes that have joined and live, the head included."""
        try:
            answer = self._client.get("/api/v0/nodes", params={"limit": 100})
            answer.raise_for_status()
        except httpx.HTTPError:
            return 0
        return sum(node["state"] == "ALIVE" for node in answer.json()["data"]["result"]["result"])

    def deploy(self, serve_config: Mapping[str, Any]) -> None:
        """Make Serve run exactly these applications. Raises `LocalRunError` with Serve's reason."""
        try:
            answer = self._client.put(
                "/api/serve/applications/", json=serve_config, timeout=_DEPLOY_TIMEOUT_S
            )
        except httpx.TransportError as error:
            raise LocalRunError(f"Ray's dashboard did not take the serve config: {error!r}") from error
        if not answer.is_success:
            raise LocalRunError(f"Ray Serve refused the config ({answer.status_code}): {answer.text.strip()}")

    def replicas(self, application: str, deployment: str) -> dict[str, dict[str, Any]]:
        """The RUNNING replicas by id, as Serve reports them (`pid`, `node_ip`, ...); none while it cannot."""
        try:
            report = self._client.get("/api/serve/applications/").raise_for_status().json()
        except httpx.HTTPError:
            return {}
        found = report["applications"].get(application, {}).get("deployments", {}).get(deployment, {})
        return {r["replica_id"]: r for r in found.get("replicas", []) if r["state"] == "RUNNING"}

    def status(self) -> ServeStatus | None:
        """What Serve reports; None while the API cannot say."""
        try:
            answer = self._client.get("/api/serve/applications/")
            answer.raise_for_status()
        except httpx.HTTPError:
            return None
        return _parse(answer.json())


def _parse(report: Mapping[str, Any]) -> ServeStatus:
    applications: Mapping[str, Any] = report.get("applications", {})
    return ServeStatus(
        applications={name: application["status"] for name, application in applications.items()},
        messages={name: _message(application) for name, application in applications.items()},
        proxies=[proxy["status"] for proxy in report.get("proxies", {}).values()],
    )


def _message(application: Mapping[str, Any]) -> str:
    """The application's own words: its builder's error, or those of its deployments' replicas."""
    messages = [application.get("message", "")]
    messages += [deployment.get("message", "") for deployment in application.get("deployments", {}).values()]
    return "\n".join(message for message in messages if message)
