"""`python -m offline`: look at a stack, or run it on this machine, without Pulumi's engine or a cluster."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from offline.diff.cli import add_command as add_diff
from offline.errors import OfflineError, ProgramError
from offline.graph import Graph
from offline.local.cli import Subparsers, add_commands
from offline.stack_options import add_stack_options, project_dir_of, stack_of

_EXIT_BROKEN = 1
_EXIT_USER_ERROR = 2
# What a shell reports for a process that a signal ended.
_EXIT_INTERRUPTED = 128 + signal.SIGINT
_EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 for errors that the user can put right."""
    try:
        options = _parser().parse_args(arguments)
        code = options.handler(options)
        sys.stdout.flush()
    except OfflineError as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except ProgramError as error:
        print(f"error: the program failed\n{error}", file=sys.stderr)
        return _EXIT_BROKEN
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; the interpreter must not try to flush the rest to nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offline",
        description="Look at a stack, compare its revisions or run it here, without the Pulumi CLI and "
        "without a cluster.",
        epilog="Exit codes: 0 done, 1 something is broken, 2 something to put right (the message says what).",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_graph(commands)
    _add_manifests(commands)
    _add_serve_config(commands)
    add_diff(commands)
    add_commands(commands)
    reference = commands.add_parser(
        "config-reference",
        help="print the configuration reference",
        description="Print the reference of all keys of a stack file, as it stands in docs/configuration.md.",
    )
    reference.set_defaults(handler=_config_reference)
    _add_effects_reference(commands)
    return parser


def _add_graph(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "graph",
        help="show the resources of a stack",
        description="Evaluate the program and show its resources, as Pulumi's engine would see them.",
    )
    add_stack_options(parser)
    parser.add_argument(
        "--format",
        choices=["text", "json", "mermaid"],
        default="text",
        help="text: a tree for reading; json: everything; mermaid: a flowchart (default: %(default)s)",
    )
    parser.add_argument(
        "--unknowns",
        action="store_true",
        help="evaluate as a first preview does, with every id and output unknown",
    )
    parser.set_defaults(handler=_graph)


def _add_manifests(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "manifests",
        help="print the Kubernetes objects as YAML",
        description="Print the stack's Kubernetes objects for kubectl apply -f -. The header names the Helm "
        "commands that come first, and the environment variables that secrets are read from.",
    )
    add_stack_options(parser)
    parser.set_defaults(handler=_manifests)


def _add_serve_config(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "serve-config",
        help="print a service's Ray Serve config, for serve deploy",
        description="Print the Serve config of a service's RayService, for serve deploy on a Ray cluster of "
        "your own.",
    )
    add_stack_options(parser)
    parser.add_argument(
        "--service", metavar="NAME", help="service to print (default: the only one that the stack has)"
    )
    parser.set_defaults(handler=_serve_config)


def _add_effects_reference(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "effects-reference",
        help="renew the table of what a change does, in docs/placement.md",
        description="Write the table of what a change of a RayService does between its marks in a page.",
    )
    parser.add_argument("page", type=Path, metavar="PAGE", help="the page: docs/placement.md")
    parser.set_defaults(handler=_effects_reference)


# The handlers import what they need, so that no command pays for another's imports.


def _graph(options: argparse.Namespace) -> int:
    graph = _evaluated(options, unknowns=options.unknowns)
    if options.format == "json":
        print(json.dumps(graph.to_json(), indent=2))
        return 0
    from offline import render

    print(render.text(graph) if options.format == "text" else render.mermaid(graph), end="")
    return 0


def _manifests(options: argparse.Namespace) -> int:
    from offline.manifests import manifests, to_yaml

    graph = _evaluated(options)
    title = f"{graph.project}, stack {graph.stack}"
    print(to_yaml(manifests(graph, os.environ), title), end="")
    return 0


def _serve_config(options: argparse.Namespace) -> int:
    from offline.serve_config import serve_config_text

    print(serve_config_text(_evaluated(options), options.service), end="")
    return 0


def _config_reference(_: argparse.Namespace) -> int:
    from offline.config_reference import markdown

    print(markdown(), end="")
    return 0


def _effects_reference(options: argparse.Namespace) -> int:
    from offline.effects_reference import renewed

    try:
        options.page.write_text(renewed(options.page.read_text()))
    except OSError as error:
        raise OfflineError(f"{options.page}: {error.strerror}; name a page that is there") from error
    return 0


def _evaluated(options: argparse.Namespace, *, unknowns: bool = False) -> Graph:
    from offline.recorder import evaluate

    graph = evaluate(
        stack_of(options),
        project_dir=project_dir_of(options),
        unknowns=unknowns,
        stack_file=options.stack_file,
    )
    for diagnostic in graph.diagnostics:
        print(f"{diagnostic.severity}: {diagnostic.message}", file=sys.stderr)
    return graph


if __name__ == "__main__":
    sys.exit(main())
