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
        description="Talk to an OpenAI-compatible API, or measure it. OPENAI_API_KEY has the key.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    talk = commands.add_parser("chat", help="a conversation in the terminal", description=chat.__doc__)
    add_connection_options(talk)
    talk.add_argument("--system", metavar="TEXT", help="what the model is told before the first question")
    # Small models wander off at the API's default of 1.
    talk.add_argument("--temperature", type=float, default=0.2, help="default %(default)s")
    talk.add_argument("--max-tokens", type=int, metavar="N", help="longest answer; default: what is left")
    talk.set_defaults(handler=chat)

    one = commands.add_parser("infer", help="one sentence, one answer", description=infer.__doc__)
    add_connection_options(one)
    one.add_argument("sentence")
    one.set_defaults(handler=infer)

    picture = commands.add_parser("imagine", help="a picture of a prompt", description=imagine.__doc__)
    add_connection_options(picture)
    picture.add_argument("prompt")
    picture.add_argument(
        "--output", type=Path, default=Path("picture.png"), metavar="FILE", help="default %(default)s"
    )
    picture.add_argument("--size", metavar="WxH", help="like 512x512; default: the service's")
    picture.add_argument("--force", action="store_true", help="overwrite the file")
    picture.set_defaults(handler=imagine)

    measure = commands.add_parser("load", help="an open-loop load test", description=load.__doc__)
    add_load_options(measure)
    measure.set_defaults(handler=load)
    return parser


if __name__ == "__main__":
    sys.exit(main())
