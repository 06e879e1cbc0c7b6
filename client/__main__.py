"""`python -m client`: talk to an OpenAI-compatible API from the terminal, or measure it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from client.chat import chat
from client.connection import add_connection_options
from client.errors import ClientError
from client.load.cli import add_load_options, load
from client.one_shot import imagine, infer

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, 2 for what the user can put right."""
    options = _parser().parse_args(arguments)
    try:
        return options.handler(options)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return _EXIT_USER_ERROR
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m client",
        description="Talk to an OpenAI-compatible API, or measure it. The variable OPENAI_API_KEY holds the "
        "API key, where one is needed.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_chat_options(
        commands.add_parser(
            "chat",
            help="chat with a model in the terminal",
            description="Chat with a model in the terminal, until the end of the input (Ctrl-D).",
        )
    )
    _add_infer_options(
        commands.add_parser(
            "infer",
            help="print the answer to one sentence",
            description="Print the most likely answer to one sentence, as the route GET /infer gives it.",
        )
    )
    _add_imagine_options(
        commands.add_parser(
            "imagine",
            help="save a picture of a prompt",
            description="Save a picture of a prompt, as the route POST /v1/images/generations gives it.",
        )
    )
    measure = commands.add_parser(
        "load",
        help="measure a model under load",
        description="Measure a model under load. Requests are sent at times that are planned beforehand, "
        "however slow the answers are (an open loop), and a table of latencies and rates is printed.",
    )
    add_load_options(measure)
    measure.set_defaults(handler=load)
    return parser


def _add_chat_options(parser: argparse.ArgumentParser) -> None:
    add_connection_options(parser)
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the first question")
    # Small models wander off at the API's default of 1.
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.2,
        metavar="T",
        help="how freely the model chooses its words; 0: always the most likely one (default: %(default)s)",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="longest answer, in tokens (default: as many as the model has room for)",
    )
    parser.set_defaults(handler=chat)


def _add_infer_options(parser: argparse.ArgumentParser) -> None:
    add_connection_options(parser)
    parser.add_argument("sentence", help="what the model is asked, in quotes")
    parser.set_defaults(handler=infer)


def _add_imagine_options(parser: argparse.ArgumentParser) -> None:
    add_connection_options(parser)
    parser.add_argument("prompt", help="what the picture shows, in quotes")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("picture.png"),
        metavar="FILE",
        help="where the picture is saved (default: %(default)s)",
    )
    parser.add_argument(
        "--size", metavar="WxH", help="width and height, like 512x512 (default: the first of the service)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file if it exists")
    parser.set_defaults(handler=imagine)


if __name__ == "__main__":
    sys.exit(main())
