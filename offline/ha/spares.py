"""What a local run with spare parts changes in a serve config, all of it reported."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from offline.local.substitutions import Substitution

WORKERS = ("ray-worker-1", "ray-worker-2")
_WHY = "so that one can be lost"


def with_spares(
    serve_config: Mapping[str, Any], proxy_port: int
) -> tuple[dict[str, Any], list[Substitution]]:
    """The config with a replica of every deployment on each of two workers.

    The proxies listen elsewhere, the head's on `proxy_port`, because the entrance has the API's address.
    """
    config = copy.deepcopy(dict(serve_config))
    config["http_options"] = config.get("http_options", {}) | {"host": "127.0.0.1", "port": proxy_port}
    found: list[Substitution] = []
    for application in config["applications"]:
        for deployment in application.get("deployments", []):
            scaled = deployment.pop("autoscaling_config", {}).get("min_replicas")
            was = deployment.get("num_replicas") or scaled or 1
            # There is no room for more than one on each, not even for a moment.
            deployment |= {"num_replicas": len(WORKERS), "max_replicas_per_node": 1, "max_surge_percent": 0}
            if was != len(WORKERS):
                what = f"{deployment['name']} num_replicas"
                found.append(Substitution(what, str(was), str(len(WORKERS)), _WHY))
    return config, found


TRY = """\
Hurt it, and go on chatting:

  make hurt ARGS="head"                 the head dies and comes back after a minute
  make hurt ARGS="worker-1"             a worker dies; its requests do, too
  make hurt ARGS="worker-1 --drain"     it ends its requests first, as on a node that Karpenter drains
  make hurt ARGS="head --pause"         the head stands still for a minute
  make hurt ARGS="redis --seconds 20"   the store of the head's state is gone for 20 seconds
  make local-status                     what runs meanwhile
"""
