"""A local run from start to end: refuse what cannot work, then stage by stage to a model that answers."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import httpx

from offline.errors import OfflineError
from offline.ha.spares import TRY, WORKERS, with_spares
from offline.ha.store import PRIMARY, Store, find_server
from offline.local.errors import LocalRunError
from offline.local.first_answer import ask
from offline.local.options import RunOptions, address, url
from offline.local.parts import Parts
from offline.local.ports import conflicts
from offline.local.preparation import LocalModel, Plan, make_plan, model_cache, pick_service
from offline.local.processes import Command, identity_of
from offline.local.ray_cluster import WORKER, RayCluster
from offline.local.report import Progress, Summary, substitution_lines
from offline.local.serve_api import RayApi
from offline.local.state import RunState, StateDirectory, new_run_id
from offline.local.supervisor import Recovery, StopRequested, Supervisor
from offline.recorder import evaluate
from offline.stack_files import read_stack
from serve_apps.environment import API_KEYS_FILE_ENV, MODEL_CACHE_ENV

_NODE_TIMEOUT_S = 180
# Loading a model that the user chose can take minutes on a laptop.
_DEPLOY_TIMEOUT_S = 1800
_ANSWER_TIMEOUT_S = 300
_UI_TIMEOUT_S = 120
# A question that only asks whether the model is back must not hold up the watch over the processes.
_PROBE_TIMEOUT_S = 30
_INTERRUPTED = 130


def run(options: RunOptions) -> int:
    """Run until stopped and return the exit code.

    Raises `OfflineError` for what is refused before anything serves: names, ports, configuration, model.
    """
    read_stack(
        options.project_dir, options.stack, stack_file=options.stack_file
    )  # a bad name must not become a directory
    directory = StateDirectory(options.state_dir)
    lock = directory.lock()
    if lock is None:
        raise OfflineError(
            f"stack {options.stack!r} is running already; `{options.command('local-status')}` shows it, "
            f"`{options.command('local-stop')}` ends it"
        )
    with lock:
        leftover = directory.load()
        if leftover is not None:  # of a run that was killed together with its guard
            directory.clean_up(leftover)
        directory.forget_logs()
        if options.ha:
            if options.grpc:
                raise OfflineError(
                    f"--grpc-port {options.grpc.port}: the entrance of a run with --ha passes on HTTP alone; "
                    "leave one of the two out"
                )
            find_server()
        findings = conflicts(options.endpoints(with_chat_page=True))
        if findings:
            raise OfflineError("\n".join(findings))
        return _supervised(options, directory)


def _supervised(options: RunOptions, directory: StateDirectory) -> int:
    progress = Progress()
    state = RunState(new_run_id(), identity_of(os.getpid()), time.time())
    try:
        with Supervisor(options.project_dir, directory, state, progress) as supervisor:
            LocalRun(options, directory, state, supervisor, progress).run()
    except StopRequested as stop:
        progress.note(f"stopped by {stop}")
        return 0 if state.answered else _INTERRUPTED
    except LocalRunError as error:
        progress.note(f"error: {error}", "red")
    return 1


class LocalRun:
    """One run of one service of a stack."""

    def __init__(
        self,
        options: RunOptions,
        directory: StateDirectory,
        state: RunState,
        supervisor: Supervisor,
        progress: Progress,
    ) -> None:
        self._options = options
        self._directory = directory
        self._state = state
        self._supervisor = supervisor
        self._progress = progress
        self._api_url = url(options.api)
        self._api_key: str | None = None

    def run(self) -> None:
        """All stages, then watch until a signal or an error ends the run."""
        plan = self._plan()
        cluster, ray = self._ray_cluster(plan)
        self._start_ray(cluster, ray, plan)
        self._wait_for_replicas(ray, plan)
        recoveries = self._parts(cluster, plan).recoveries(lambda: self._answers(ray, plan))
        if plan.model:
            with self._progress.stage("first answer") as stage:
                stage.result = self._ask(plan.model, _ANSWER_TIMEOUT_S)
        if plan.model and plan.model.has_page:
            recoveries["chat-page"] = self._start_chat_page(plan.service.name)
        self._progress.show(self._summary(plan).text() + (TRY if self._options.ha else ""))
        self._state.phase, self._state.answered = "running", True
        self._supervisor.save()
        self._supervisor.watch(recoveries)

    def _plan(self) -> Plan:
        options = self._options
        with self._progress.stage(f"evaluate stack {options.stack}") as stage:
            graph = evaluate(options.stack, project_dir=options.project_dir, stack_file=options.stack_file)
            service = pick_service(graph, options.service)
            stage.result = f"RayService {service.name}"
        with self._progress.stage("prepare model") as stage:
            plan = make_plan(service, options, self._supervisor.run_program, stage.update)
            stage.result = plan.model.name if plan.model else "this app brings its own"
        for line in substitution_lines(plan.substitutions):
            self._progress.note(line)
        for warning in options.exposed(api_has_keys=plan.model is not None and plan.model.has_keys):
            self._progress.note(f"warning: {warning}", "yellow")
        self._state.service = service.name
        self._state.model = plan.model.served_name if plan.model else None
        return plan

    @property
    def _workers(self) -> tuple[str, ...]:
        return WORKERS if self._options.ha else (WORKER,)

    def _ray_cluster(self, plan: Plan) -> tuple[RayCluster, RayApi]:
        options, directory = self._options, self._directory
        app_env = {MODEL_CACHE_ENV: str(model_cache(options.project_dir))}
        if plan.model and plan.model.has_keys:
            self._api_key = directory.secret(directory.api_keys)
            app_env[API_KEYS_FILE_ENV] = str(directory.api_keys)
        token = directory.secret(directory.ray_token)
        cluster = RayCluster(
            code_dirs=options.code_dirs,
            token_file=directory.ray_token,
            dashboard_host=options.dashboard.host,
            dashboard_port=options.dashboard.port,
            app_env=app_env,
            workers=self._workers,
        )
        if options.ha:
            cluster.store = Store(directory.store, "127.0.0.1")
        self._state.ray_directory = str(cluster.directory)
        endpoints = options.endpoints(with_chat_page=plan.model is not None and plan.model.has_page)
        self._state.urls = {
            name: address(endpoint) if endpoint is options.grpc else url(endpoint)
            for name, endpoint in endpoints.items()
        }
        self._supervisor.save()
        return cluster, RayApi(url(options.dashboard), token)

    def _start_ray(self, cluster: RayCluster, ray: RayApi, plan: Plan) -> None:
        service, supervisor = plan.service, self._supervisor
        if cluster.store:
            with self._progress.stage("Redis") as stage:
                supervisor.launch(cluster.store.command(PRIMARY))
                supervisor.wait(cluster.store.answers, what="Redis", timeout_s=_NODE_TIMEOUT_S)
                stage.result = "keeps the state of the head"
        with self._progress.stage("Ray head") as stage:
            supervisor.launch(cluster.head(service.head_env))
            supervisor.wait(lambda: cluster.gcs_listens, what="Ray's GCS", timeout_s=_NODE_TIMEOUT_S)
            for worker in self._workers:
                supervisor.launch(cluster.worker(service.worker, worker))  # it loads while the dashboard does
            supervisor.wait(ray.ready, what="Ray's dashboard", timeout_s=_NODE_TIMEOUT_S)
            ray.deploy(self._config(cluster, plan))  # Serve's own processes start while the worker joins
            stage.result = "no CPUs, so it runs no replicas"
        with self._progress.stage("Ray worker") as stage:
            nodes = 1 + len(self._workers)
            supervisor.wait(lambda: ray.alive_nodes() == nodes, what="the worker", timeout_s=_NODE_TIMEOUT_S)
            stage.result = service.worker.summary()
        if self._options.ha:
            supervisor.launch(self._parts(cluster, plan).entrance())

    def _parts(self, cluster: RayCluster, plan: Plan) -> Parts:
        return Parts(cluster, plan.service, self._options.api, self._directory.path)

    def _config(self, cluster: RayCluster, plan: Plan) -> dict[str, Any]:
        if not self._options.ha:
            return plan.serve_config
        config, found = with_spares(plan.serve_config, cluster.head_proxy_port)
        for line in substitution_lines(found)[1:]:
            self._progress.note(line)
        return config

    def _wait_for_replicas(self, ray: RayApi, plan: Plan) -> None:
        with self._progress.stage("deploy") as stage:

            def serving() -> bool:
                status = ray.status()
                if status is None:
                    return False
                stage.update(status.summary())
                if status.failed:
                    raise LocalRunError(f"Ray Serve gave up: {status.summary()}\n{status.words()}")
                return status.serving

            self._supervisor.wait(serving, what="Ray Serve's RUNNING", timeout_s=_DEPLOY_TIMEOUT_S)
            stage.result = f"{plan.service.name} is RUNNING"

    def _start_chat_page(self, service: str) -> Recovery:
        address = url(self._options.ui)
        page = Recovery(lambda: self._chat_page(service), lambda: _is_ready(f"{address}/health"))
        with self._progress.stage("chat page") as stage:
            self._supervisor.launch(page.command())
            self._supervisor.wait(page.recovered, what="the chat page", timeout_s=_UI_TIMEOUT_S)
            stage.result = address
        return page

    def _chat_page(self, service: str) -> Command:
        env = {
            **os.environ,
            "CHAT_UI_BASE_URLS": f"{service}={self._api_url}/v1",
            "CHAT_UI_HOST": self._options.ui.host,
            "CHAT_UI_PORT": str(self._options.ui.port),
        }
        if self._api_key:
            env["OPENAI_API_KEY"] = self._api_key
        return Command("chat-page", [sys.executable, "-m", "chat_ui"], env)

    def _answers(self, ray: RayApi, plan: Plan) -> bool:
        status = ray.status()
        if status is None or not status.serving:
            return False
        if plan.model is None:
            return True
        try:
            return bool(self._ask(plan.model, _PROBE_TIMEOUT_S))
        except LocalRunError:
            return False

    def _ask(self, model: LocalModel, timeout_s: float) -> str:
        return ask(self._api_url, model.app, model.served_name, self._api_key, timeout_s)

    def _summary(self, plan: Plan) -> Summary:
        options, directory = self._options, self._directory
        return Summary(
            stack=options.stack,
            model=plan.model,
            api_url=self._api_url,
            ui_url=url(options.ui) if plan.model and plan.model.has_page else None,
            dashboard_url=url(options.dashboard),
            token_file=directory.ray_token,
            api_keys_file=directory.api_keys if self._api_key else None,
            logs=directory.logs,
            grpc=address(options.grpc) if options.grpc else None,
            stop=f"{options.command('local-stop')}, or Ctrl-C if it runs in the foreground",
        )


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False
