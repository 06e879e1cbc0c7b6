"""What the user chose on the command line of `offline run`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from offline.local.ports import Endpoint
from offline.stack_options import DEFAULT_STACK

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class RunOptions:
    """`service` is needed where the stack has several. `state_dir` holds the state and logs of the run.

    `ha`: with a second worker, a store for the head's state and a way in that knows which workers are well.
    `stack_file` is read in place of the project's own; what lies beside it can be imported. `grpc` is where
    the service's gRPC entrance listens, if it is to have one here.
    """

    project_dir: Path
    stack: str
    service: str | None
    api: Endpoint
    ui: Endpoint
    dashboard: Endpoint
    state_dir: Path
    ha: bool = False
    stack_file: Path | None = None
    grpc: Endpoint | None = None

    @property
    def code_dirs(self) -> list[Path]:
        """Where applications import from: the checkout, and the directory of a stack file of its own."""
        return [self.project_dir, *([self.stack_file.parent] if self.stack_file else [])]

    def exposed(self, *, api_has_keys: bool) -> list[str]:
        """What other machines could use without a key; empty as long as everything is on loopback."""
        open_ones = {"chat page": self.ui} | ({} if api_has_keys else {"API": self.api})
        open_ones |= {"gRPC entrance": self.grpc} if self.grpc else {}
        return [
            f"the {name} on {endpoint.host}:{endpoint.port} is open to everybody who reaches this machine"
            for name, endpoint in open_ones.items()
            if not endpoint.is_loopback
        ]

    def command(self, target: str) -> str:
        """The command that does something to this run: `make local-status`, `make local-stop`."""
        arguments: list[str] = []
        if self.stack != DEFAULT_STACK:
            arguments += ["--stack", self.stack]
        if self.state_dir != default_state_dir(_CHECKOUT, self.stack):
            arguments += ["--state-dir", str(self.state_dir)]
        return f"make {target}" + (f" ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "")

    def run_arguments(self) -> list[str]:
        """The arguments of `python -m offline` that start this run in the foreground."""
        arguments = ["run", "--project-dir", str(self.project_dir), "--state-dir", str(self.state_dir)]
        arguments += ["--api-host", self.api.host, "--api-port", str(self.api.port)]
        arguments += ["--ui-host", self.ui.host, "--ui-port", str(self.ui.port)]
        arguments += ["--dashboard-port", str(self.dashboard.port)]
        arguments += ["--stack-file", str(self.stack_file)] if self.stack_file else ["--stack", self.stack]
        arguments += ["--service", self.service] if self.service else []
        arguments += ["--grpc-port", str(self.grpc.port)] if self.grpc else []
        return arguments + (["--ha"] if self.ha else [])

    def endpoints(self, *, with_chat_page: bool) -> dict[str, Endpoint]:
        """What users talk to, by its name for people."""
        page = {"chat page": self.ui} if with_chat_page else {}
        grpc = {"gRPC entrance": self.grpc} if self.grpc else {}
        return {"API": self.api, **grpc, **page, "Ray dashboard": self.dashboard}


def address(endpoint: Endpoint) -> str:
    """Where a client on this machine reaches the endpoint, `host:port`."""
    return f"{'127.0.0.1' if endpoint.host == '0.0.0.0' else endpoint.host}:{endpoint.port}"


def url(endpoint: Endpoint) -> str:
    """The same for HTTP."""
    return f"http://{address(endpoint)}"


def default_state_dir(project_dir: Path, stack: str) -> Path:
    """Where the run of a stack keeps its state and logs."""
    return project_dir / ".cache" / "local" / stack
