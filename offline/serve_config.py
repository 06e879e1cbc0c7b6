"""A service's Ray Serve config on its own, for people who run `serve deploy` against a cluster they have."""

from __future__ import annotations

from offline.graph import Graph
from offline.local.preparation import ray_service

_HEADER = """\
# Ray Serve config of service {service!r}, stack {stack!r}, as it stands in its RayService.
#   serve deploy FILE     on a Ray cluster whose nodes have the app's code and packages
"""
# The code of an application on AWS is in the stack's bucket, whose account is not known here.
_CODE_NOTE = """\
# runtime_env.working_dir: offline the bucket's account is a stand-in. Name a zip of your own, or remove the
# key where the nodes have the code.
"""


def serve_config_text(graph: Graph, service: str | None) -> str:
    """YAML that Ray's `ServeDeploySchema` accepts. Raises `OfflineError` if there is no such service."""
    resource = ray_service(graph, service)
    header = _HEADER.format(service=resource.name, stack=graph.stack)
    config: str = resource.inputs["spec"]["serveConfigV2"]
    return header + (_CODE_NOTE if "working_dir: s3://" in config else "") + config
