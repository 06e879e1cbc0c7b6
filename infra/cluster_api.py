"""The API server of a cluster, asked by the program itself: what is there before something is made.

What the stack makes goes through the Kubernetes provider; here is only what has to be known, or put right,
before that.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, TypeVar, cast

import pulumi
import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

_Answer = TypeVar("_Answer")

# To connect, and to answer. A server that is there answers in milliseconds, and a busy one within seconds.
_TIMEOUTS_S = (5, 30)
_NOT_FOUND = 404
_ANOTHER = "or choose another context: `pulumi config set kubeconfigContext NAME`"
_REFUSED = {
    401: "the API server does not accept the credentials of this context; log in again, " + _ANOTHER,
    403: "the credentials of this context may not do this; ask for the right, " + _ANOTHER,
}


# The SDK's own threads may all be waiting for the engine, which waits for a hook, which asks here: a hook
# that waited for one of them would wait for ever (`run_in_executor` in pulumi/runtime/resource.py).
_THREADS = ThreadPoolExecutor(thread_name_prefix="cluster-api")


async def in_thread(ask: Callable[..., _Answer], *args: Any) -> _Answer:
    """Call what asks the API server without holding up the program, which goes on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, ask, *args)


def api_root(api_version: str) -> str:
    """Where the API server tells of an API, and below which it keeps the API's objects."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


class ClusterError(pulumi.RunError):
    """The cluster cannot be used as it is; the message is one sentence and all that a user needs to see."""


class ClusterApi:
    """Objects of the API server as JSON. All methods raise `ClusterError`."""

    def __init__(self, api: client.ApiClient, name: str) -> None:
        settings = api.configuration
        # urllib3 would repeat a failed request three times, and make a wait of ten seconds one of forty.
        settings.retries = False  # pyright: ignore[reportAttributeAccessIssue]
        if not settings.verify_ssl:
            # Said in the kubeconfig, on purpose, and not to be repeated at every request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._api = client.ApiClient(settings)
        self.name = f"{name} ({settings.host})"

    @cached_property
    def version(self) -> str:
        """Version of Kubernetes, such as v1.35.3."""
        answer = self.get("/version")
        if answer is None:
            raise ClusterError(
                f"{self.name} answers and is no Kubernetes API server; repair the kubeconfig, {_ANOTHER}"
            )
        return answer["gitVersion"]

    def get(self, path: str) -> dict[str, Any] | None:
        """What is at a path, None where nothing is."""
        return self._request("GET", path)

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST an object; the server's answer to it."""
        return self._request("POST", path, dict(body)) or {}

    def delete(self, path: str) -> None:
        """Delete what is at a path; what is gone already is no error."""
        self._request("DELETE", path)

    def resource_of(self, api_version: str, kind: str) -> dict[str, Any] | None:
        """The `APIResource` of a kind: its plural `name`, and whether it is `namespaced`. None if unknown."""
        found = self.get(api_root(api_version)) or {}
        # A subresource (`rayservices/status`) has the kind of its parent.
        kinds = {entry["kind"]: entry for entry in found.get("resources", []) if "/" not in entry["name"]}
        return kinds.get(kind)

    def _request(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{self._api.configuration.host}{path}"
        try:
            response = self._api.request(
                method, url, headers=headers, body=body, _request_timeout=_TIMEOUTS_S
            )
            return cast("dict[str, Any]", json.loads(response.data))
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            if error.status:
                told = f"{method} {path}: {_explained(error.status, error.body)}"
                raise ClusterError(f"{self.name}: {told}") from None
            raise ClusterError(self._unreachable(error)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(self._unreachable(error)) from None

    def _unreachable(self, error: Exception) -> str:
        # An ApiException without a status is the client's word for a failed TLS handshake.
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        return f"{self.name} does not answer: {reason}; start the cluster, repair the kubeconfig, {_ANOTHER}"


def by_context(context: str | None) -> ClusterApi:
    """The cluster of a context of the kubeconfig, or of the current one; inside a pod, the pod's own.

    As the provider finds it: $KUBECONFIG, ~/.kube/config, the service account of the pod. Raises
    `ClusterError` where there is none.
    """
    return _by_context(context, os.environ.get("KUBECONFIG"))


@cache
def _by_context(context: str | None, files: str | None) -> ClusterApi:
    name = f"the cluster of context {context!r}" if context else "the cluster of the current context"
    settings = client.Configuration()
    try:
        config.load_kube_config(files, context, settings, persist_config=False)
    except (ConfigException, OSError, yaml.YAMLError) as error:
        if context is None and _loaded_in_pod(settings):
            return ClusterApi(client.ApiClient(settings), "the cluster of this pod")
        raise ClusterError(
            f"{name} cannot be found: {error}; name an existing kubeconfig in KUBECONFIG, {_ANOTHER}"
        ) from None
    return ClusterApi(client.ApiClient(settings), name)


@cache
def by_kubeconfig(kubeconfig: str) -> ClusterApi:
    """The cluster of a kubeconfig's text. Raises `ClusterError`."""
    try:
        api = config.new_client_from_config_dict(yaml.safe_load(kubeconfig), persist_config=False)
    except ConfigException as error:
        raise ClusterError(f"the kubeconfig of the cluster cannot be read: {error}") from None
    return ClusterApi(api, "the cluster of this stack")


def _loaded_in_pod(settings: client.Configuration) -> bool:
    try:
        config.load_incluster_config(client_configuration=settings)
    except ConfigException:
        return False
    return True


def _explained(status: int, body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        said = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        said = text[:200]
    return f"{status} {said}; {_REFUSED.get(status, 'see the log of the API server')}"
