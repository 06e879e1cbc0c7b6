"""The commands `run`, `status`, `stop` and `hurt` of `python -m offline`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from offline.local.options import RunOptions, default_state_dir
from offline.local.ports import Endpoint
from offline.stack_options import add_stack_options, project_dir_of, stack_of

_LOOPBACK = "127.0.0.1"
_DEFAULT = "(default: %(default)s)"


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` returns, which argparse has no public name for."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """A parser for the command `name`."""
        ...


def add_commands(subparsers: Subparsers) -> None:
    """Add the commands; each parser sets `handler`, a function from the parsed arguments to an exit code."""
    _add_run_options(_add(subparsers, "run", _run, "run a stack's service on this machine until Ctrl-C"))
    _add(subparsers, "status", _status, "show the run of a stack; exit code 0 if it runs, 3 if not")
    _add(subparsers, "stop", _stop, "end the run of a stack, if there is one")
    _add_hurt_options(
        _add(subparsers, "hurt", _hurt, "kill, pause or drain a part of a run that was started with --ha")
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--service", metavar="NAME", help="service to run (default: the only one that the stack has)"
    )
    for name, what, port in (("api", "the API", 8000), ("ui", "the chat page", 7860)):
        text = f"address that {what} listens on {_DEFAULT}"
        parser.add_argument(f"--{name}-host", default=_LOOPBACK, metavar="ADDRESS", help=text)
        text = f"port that {what} listens on {_DEFAULT}"
        parser.add_argument(f"--{name}-port", default=port, type=_port, metavar="PORT", help=text)
    text = "port of gRPC, for a service that has it (default: gRPC is off)"
    parser.add_argument("--grpc-port", type=_port, metavar="PORT", help=text)
    text = f"port of Ray's dashboard {_DEFAULT}"
    parser.add_argument("--dashboard-port", default=8265, type=_port, metavar="PORT", help=text)
    parser.add_argument(
        "--ha",
        action="store_true",
        help="run two workers and Redis, so that parts can be killed with make hurt ARGS=head",
    )
    parser.add_argument(
        "--detach", action="store_true", help="return once the model answers, and leave it running"
    )


def _add_hurt_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=["head", "worker-1", "worker-2", "redis"], help="what is hurt")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--pause", action="store_true", help="pause it for a while instead of killing it")
    ways.add_argument("--drain", action="store_true", help="let it end its requests first")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="seconds that a pause or a drain may last (default: %(default)g)",
    )


def _add(
    subparsers: Subparsers,
    name: str,
    handler: Callable[[argparse.Namespace], int],
    help_: str,
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
    add_stack_options(parser)
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="directory for state and logs (default: .cache/local/STACK in the project)",
    )
    parser.set_defaults(handler=handler)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no TCP port; choose one from 1 to 65535")
    return port


# The handlers import what they need, because `python -m offline graph` needs none of it.


def _run(args: argparse.Namespace) -> int:
    from offline.local import detached, runner

    options = RunOptions(
        project_dir=project_dir_of(args),
        stack=stack_of(args),
        service=args.service,
        api=Endpoint(args.api_host, args.api_port, "--api-port"),
        ui=Endpoint(args.ui_host, args.ui_port, "--ui-port"),
        dashboard=Endpoint(_LOOPBACK, args.dashboard_port, "--dashboard-port"),
        state_dir=_state_dir(args),
        ha=args.ha,
        stack_file=args.stack_file and args.stack_file.resolve(),
        # Ray knows no other address for it.
        grpc=Endpoint("0.0.0.0", args.grpc_port, "--grpc-port") if args.grpc_port else None,
    )
    return detached.start(options) if args.detach else runner.run(options)


def _status(args: argparse.Namespace) -> int:
    from offline.local import detached

    return detached.status(stack_of(args), _state_dir(args))


def _stop(args: argparse.Namespace) -> int:
    from offline.local import detached

    return detached.stop(stack_of(args), _state_dir(args))


def _hurt(args: argparse.Namespace) -> int:
    from offline.ha.hurt import hurt

    way = "pause" if args.pause else "drain" if args.drain else "kill"
    return hurt(stack_of(args), _state_dir(args), args.part, way, args.seconds)


def _state_dir(args: argparse.Namespace) -> Path:
    return (args.state_dir or default_state_dir(project_dir_of(args), stack_of(args))).absolute()
