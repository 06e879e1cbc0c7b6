"""Refuses keys of a Ray Serve config that Ray would silently ignore.

`ServeDeploySchema` drops what it does not know, so a typing error means a default. The table below is data,
not an import, because the Pulumi program runs without Ray; a test holds it against Ray's own schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.config_errors import nearest

# Keys by place, as ray.serve.schema.ServeDeploySchema of Ray 2.60 has them. Where a value is a table it is
# checked in turn; None marks free-form objects.
_LOGGING: dict[str, Any] = dict.fromkeys(
    ("encoding", "log_level", "logs_dir", "enable_access_log", "additional_log_standard_attrs")
)
_AUTOSCALING: dict[str, Any] = dict.fromkeys(
    (
        "min_replicas",
        "initial_replicas",
        "max_replicas",
        "target_ongoing_requests",
        "metrics_interval_s",
        "look_back_period_s",
        "smoothing_factor",
        "upscale_smoothing_factor",
        "downscale_smoothing_factor",
        "upscaling_factor",
        "downscaling_factor",
        "downscale_delay_s",
        "downscale_to_zero_delay_s",
        "upscale_delay_s",
        "aggregation_function",
        "policy",
    )
)
_ACTOR_OPTIONS: dict[str, Any] = dict.fromkeys(
    (
        "runtime_env",
        "num_cpus",
        "num_gpus",
        "memory",
        "resources",
        "accelerator_type",
        "label_selector",
        "fallback_strategy",
    )
)
_DEPLOYMENT: dict[str, Any] = {
    **dict.fromkeys(
        (
            "name",
            "num_replicas",
            "max_ongoing_requests",
            "max_queued_requests",
            "user_config",
            "graceful_shutdown_wait_loop_s",
            "graceful_shutdown_timeout_s",
            "health_check_period_s",
            "health_check_timeout_s",
            "placement_group_bundles",
            "placement_group_strategy",
            "placement_group_bundle_label_selector",
            "max_replicas_per_node",
            "request_router_config",
            "gang_scheduling_config",
            "deployment_actors",
            "rolling_update_percentage",
            "max_surge_percent",
        )
    ),
    "backpressure_config": dict.fromkeys(("status_code", "retry_after_s")),
    "autoscaling_config": _AUTOSCALING,
    "ray_actor_options": _ACTOR_OPTIONS,
    "logging_config": _LOGGING,
}
_APPLICATION: dict[str, Any] = {
    **dict.fromkeys(
        (
            "name",
            "route_prefix",
            "import_path",
            "runtime_env",
            "host",
            "port",
            "autoscaling_policy",
            "args",
            "external_scaler_enabled",
        )
    ),
    "deployments": _DEPLOYMENT,
    "logging_config": _LOGGING,
}
KNOWN_KEYS: dict[str, Any] = {
    **dict.fromkeys(("proxy_location", "controller_options", "tracing_config", "target_capacity")),
    "http_options": dict.fromkeys(
        (
            "host",
            "port",
            "root_path",
            "request_timeout_s",
            "keep_alive_timeout_s",
            "ssl_keyfile",
            "ssl_certfile",
            "ssl_keyfile_password",
            "ssl_ca_certs",
        )
    ),
    "grpc_options": dict.fromkeys(
        ("port", "grpc_servicer_functions", "request_timeout_s", "enable_reflection")
    ),
    "logging_config": _LOGGING,
    "applications": _APPLICATION,
}


def unknown_keys(value: Any, *, path: str, known: Mapping[str, Any] = KNOWN_KEYS) -> Iterator[str]:
    """Findings about keys that Ray would silently ignore, at any depth."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_keys(item, path=f"{path}[{index}]", known=known)
        return
    if not isinstance(value, Mapping):
        return
    for key, item in value.items():
        if key not in known:
            yield f"{path}.{key}: unknown key of a Ray Serve config; {nearest(str(key), list(known))}"
        elif known[key] is not None:
            yield from unknown_keys(item, path=f"{path}.{key}", known=known[key])
