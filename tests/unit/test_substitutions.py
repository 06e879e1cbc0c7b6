"""`offline.local`: what a RayService becomes on one machine."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from infra.service_config import StableDiffusionService
from offline.errors import OfflineError
from offline.graph import Graph, Resource
from offline.local.local_service import RAY_SERVICE_TYPE, LocalService, from_custom_resource
from offline.local.preparation import pick_service
from offline.local.substitutions import LOCAL_MODEL, ModelLimits, Substitution, adapt, share_one_machine
from serve_apps.model_tiny import TINY_STABLE_DIFFUSION
from tests.unit.plans import CPU, HEADS_OWN, NEURON, OWN, SECRETS, WORKERS_OWN, plan
from workloads.ray_cluster import DATA_PLANES
from workloads.service_plan import plan_service

CODE_URL = "s3://bucket/code.zip"
ROOMY = ModelLimits(max_positions=8192, kv_elements_per_token=11520, free_memory_bytes=2**34)


def service(base: dict[str, Any], **changes: Any) -> LocalService:
    return from_custom_resource({"metadata": {"name": "chat"}, "spec": plan(base, **changes).spec})


def image_service() -> LocalService:
    keys = {
        "app": "stable-diffusion",
        "model": "org/stable-diffusion",
        "accelerator": "neuron",
        "instanceType": "inf2.8xlarge",
        "neuronCores": 2,
        "sizes": [512, 768],
        "image": "i:1",
    }
    planned = plan_service("pictures", StableDiffusionService.model_validate(keys), SECRETS)
    return from_custom_resource({"metadata": {"name": "pictures"}, "spec": planned.spec})


def adapted(
    local: LocalService, limits: ModelLimits = ROOMY, grpc_port: int | None = None
) -> tuple[dict[str, Any], dict[str, Substitution]]:
    config, found = adapt(
        local.serve_config,
        local.worker,
        host="127.0.0.1",
        port=8000,
        grpc_port=grpc_port,
        limits_of=lambda _: limits,
    )
    return config, {substitution.what: substitution for substitution in found}


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in config["applications"][0]["deployments"] if item["name"] == name)


# --- the nodes -----------------------------------------------------------------------------------------


def test_the_worker_has_the_cpus_of_the_pod_and_its_neuron_cores() -> None:
    worker = service(NEURON).worker
    assert worker.cpus == 95  # 95690 - 700 millicores of an inf2.24xlarge, rounded up as KubeRay does
    assert worker.resources == {"neuron_cores": 12}
    assert worker.env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "317"
    assert "HF_TOKEN" not in worker.env  # from a Kubernetes secret, which does not exist here


def test_a_worker_without_neuron_cores_gets_those_of_an_inf2_xlarge() -> None:
    assert service(CPU).worker.resources == {"neuron_cores": 2}


def test_resources_in_ray_start_params_are_read_through_their_shell_quotes() -> None:
    spec = copy.deepcopy(plan(CPU).spec)
    spec["rayClusterConfig"]["workerGroupSpecs"][0]["rayStartParams"] = {
        "num-cpus": "7",
        "resources": '"{\\"neuron_cores\\": 4}"',
    }
    worker = from_custom_resource({"metadata": {"name": "chat"}, "spec": spec}).worker
    assert (worker.cpus, worker.resources) == (7, {"neuron_cores": 4})


def test_a_service_without_an_application_is_refused() -> None:
    spec = plan(CPU).spec | {"serveConfigV2": "applications: []"}
    with pytest.raises(OfflineError, match=r"'chat'.*names no application"):
        from_custom_resource({"metadata": {"name": "chat"}, "spec": spec})


# --- what changes --------------------------------------------------------------------------------------


def test_applications_that_can_run_here_are_deployed_unchanged() -> None:
    local = service(CPU)
    config, found = adapted(local)
    assert config["applications"] == local.serve_config["applications"]
    assert list(found) == ["http host"]
    assert found["http host"].becomes == "127.0.0.1"


def test_the_stacks_own_config_is_left_alone() -> None:
    local = service(NEURON, codeUrl=CODE_URL)
    before = copy.deepcopy(local.serve_config)
    adapted(local)
    assert local.serve_config == before


def test_a_neuron_service_keeps_its_name_and_type_and_gets_a_small_model_on_the_cpu() -> None:
    config, found = adapted(service(NEURON))
    args = config["applications"][0]["args"]
    assert (args["engine"], args["device"], args["model"]) == ("torch", "cpu", LOCAL_MODEL)
    assert (args["served_name"], args["dtype"], args["tensor_parallel"]) == ("chat", "bfloat16", 2)
    assert set(found) == {"http host", "engine", "device", "model", "Engine max_replicas"}
    assert found["model"].was == NEURON["model"]
    ServeDeploySchema.model_validate(config)


def test_an_image_service_gets_the_model_that_paints_noise_and_says_so() -> None:
    config, found = adapted(image_service())
    args = config["applications"][0]["args"]
    assert (args["model"], args["device"], args["neuron_cores"]) == (TINY_STABLE_DIFFUSION, "cpu", 1)
    assert (args["served_name"], args["sizes"]) == ("pictures", [512, 768])
    assert "its pictures are noise" in found["model"].why
    ServeDeploySchema.model_validate(config)


def test_what_the_device_would_sample_is_sampled_on_the_host() -> None:
    config, found = adapted(service(NEURON, sampling="device"))
    assert config["applications"][0]["args"]["sampling"] == "host"
    assert found["sampling"].was == "device"


def test_placement_on_neuron_cores_stays_real() -> None:
    config, _ = adapted(service(NEURON))
    assert deployment(config, "Engine")["ray_actor_options"]["resources"] == {"neuron_cores": 2}


def test_a_code_url_is_replaced_by_this_checkout() -> None:
    config, found = adapted(service(CPU, codeUrl=CODE_URL))
    assert config["applications"][0]["runtime_env"] == {}
    assert (found["code location"].was, found["code location"].becomes) == (CODE_URL, "this checkout")


def test_a_model_is_kept_where_engine_and_device_are() -> None:
    config, found = adapted(service(CPU, model="some-org/some-model"))
    assert config["applications"][0]["args"]["model"] == "some-org/some-model"
    assert "model" not in found


def test_a_context_beyond_the_local_models_is_cut_to_it() -> None:
    longer = {"model": "mistralai/Mistral-7B-Instruct-v0.2", "maxModelLen": 16384, "slots": 2}
    config, found = adapted(service(NEURON, **longer))
    assert config["applications"][0]["args"]["max_model_len"] == 8192
    assert (found["max_model_len"].was, found["max_model_len"].becomes) == ("16384", "8192")


def test_slots_are_cut_to_what_half_of_the_free_memory_holds() -> None:
    tokens = 2048
    slot_bytes = tokens * ROOMY.kv_elements_per_token * 2  # bfloat16
    tight = ModelLimits(8192, ROOMY.kv_elements_per_token, free_memory_bytes=2 * 3 * slot_bytes)
    config, found = adapted(service(NEURON, slots=8, maxModelLen=tokens), tight)
    assert config["applications"][0]["args"]["slots"] == 3
    assert found["slots"].becomes == "3"


def test_the_local_model_is_not_asked_for_where_it_is_not_needed() -> None:
    def never(model: str) -> ModelLimits:
        raise AssertionError(f"{model} was prepared for nothing")

    local = service(CPU)
    adapt(local.serve_config, local.worker, host="127.0.0.1", port=8000, grpc_port=None, limits_of=never)


# --- gRPC ----------------------------------------------------------------------------------------------


def test_grpc_is_left_out_unless_a_port_is_asked_for() -> None:
    own = service(OWN, grpc={"servicerFunctions": ["stubs.add_X_to_server"]})
    config, found = adapted(own)
    assert "grpc_options" not in config
    assert (found["grpc port"].was, found["grpc port"].becomes) == ("9000", "none")
    config, found = adapted(own, grpc_port=9001)
    assert config["grpc_options"]["port"] == 9001
    assert found["grpc port"].becomes == "9001"
    assert "grpc port" not in adapted(own, grpc_port=9000)[1]


def test_a_port_for_grpc_that_the_service_has_not_is_refused() -> None:
    with pytest.raises(OfflineError, match=r"--grpc-port 9000: the service has no gRPC entrance; leave"):
        adapted(service(CPU), grpc_port=9000)


# --- replicas ------------------------------------------------------------------------------------------


def test_replicas_are_cut_to_what_one_worker_holds() -> None:
    config, found = adapted(service(NEURON, replicas={"min": 8, "max": 12}))
    bounds = deployment(config, "Engine")["autoscaling_config"]
    assert (bounds["min_replicas"], bounds["max_replicas"]) == (6, 6)  # 12 cores, 2 a replica
    assert (found["Engine min_replicas"].was, found["Engine min_replicas"].becomes) == ("8", "6")


def test_spread_over_workers_is_given_up_on_the_only_one() -> None:
    config, found = adapted(service(CPU, replicas={"min": 2, "max": 2}))
    assert deployment(config, "Api")["num_replicas"] == 1
    assert found["Api num_replicas"].was == "2"


def test_every_deployment_gets_one_replica_before_one_gets_two() -> None:
    greedy = [
        {"name": "First", "num_replicas": 9, "ray_actor_options": {"num_cpus": 1}},
        {"name": "Second", "num_replicas": 1, "ray_actor_options": {"num_cpus": 1}},
    ]
    config, _ = adapted(service(OWN, deployments=greedy, worker={"cpus": 4, "memoryGib": 4}))
    assert [item["num_replicas"] for item in config["applications"][0]["deployments"]] == [3, 1]


def test_a_replica_that_fits_no_worker_is_refused_with_what_it_lacks() -> None:
    demanding = [{"name": "Big", "ray_actor_options": {"num_cpus": 1, "resources": {"neuron_cores": 64}}}]
    with pytest.raises(OfflineError, match=r"'Big' needs 1 CPU, 64 neuron_cores.*has .*2 neuron_cores left"):
        adapted(service(OWN, deployments=demanding))


def test_arguments_of_other_apps_are_left_alone() -> None:
    config, _ = adapted(service(OWN))
    assert config["applications"][0]["args"] == {"greeting": "hi"}


# --- which service -------------------------------------------------------------------------------------


def graph_of(*names: str) -> Graph:
    spec = plan(CPU).spec
    return Graph(
        project="demo",
        stack="dev",
        outputs={},
        resources=[
            Resource(
                urn=f"urn:{name}",
                type=RAY_SERVICE_TYPE,
                name=name,
                custom=True,
                inputs={"metadata": {"name": name}, "spec": spec},
            )
            for name in names
        ],
    )


def test_the_only_service_is_the_one_that_runs() -> None:
    assert pick_service(graph_of("chat"), None).name == "chat"


def test_one_of_several_services_has_to_be_named() -> None:
    with pytest.raises(OfflineError, match="several services; choose one with --service: chat, code"):
        pick_service(graph_of("chat", "code"), None)
    assert pick_service(graph_of("chat", "code"), "code").name == "code"


def test_a_stack_without_a_service_is_refused() -> None:
    with pytest.raises(OfflineError, match="'dev' has no service"):
        pick_service(graph_of(), None)


@pytest.mark.parametrize(("data_plane", "replaced"), [("default", 0), ("throughput", 0), ("haproxy", 1)])
def test_haproxy_needs_a_machine_for_each_node(data_plane: str, replaced: int) -> None:
    local, found = share_one_machine(service(CPU, dataPlane=data_plane))
    assert [substitution.what for substitution in found] == ["data plane"] * replaced
    for env, own in ((local.head_env, HEADS_OWN), (local.worker.env, WORKERS_OWN)):
        modes = {key: value for key, value in env.items() if key.startswith("RAY_SERVE_")}
        assert modes == DATA_PLANES["throughput" if replaced else data_plane] | own
