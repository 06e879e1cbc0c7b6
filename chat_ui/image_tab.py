"""The tab that paints: a prompt, a size and a seed to an image."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from html import escape
from typing import Any

import gradio as gr

from chat_ui.apis import Apis, Models, Picture
from chat_ui.errors import ApiError

# How often the reader is told how long it has taken so far.
_TICK_S = 0.5
# Nothing, or a number that fits 64 bits; the API knows its own limit.
_SEED = re.compile(r"[0-9]{0,19}")


class ImageTab:
    """Renders into the tab that is open. `picker` and `size` are for the page to fill, by `choices`."""

    def __init__(self, apis: Apis) -> None:
        self._apis = apis
        self._work: dict[str | None, asyncio.Future[Picture]] = {}  # by session
        self.picker = gr.Dropdown(label="Model", visible=False, elem_id="image-model")
        prompt = gr.Textbox(
            label="Prompt", placeholder="A lighthouse at dusk", lines=2, max_lines=6, elem_id="prompt"
        )
        with gr.Row():
            self.size = gr.Dropdown(label="Size", min_width=120, elem_id="size")
            # Not a number field: Gradio turns an empty one into 0.
            seed = gr.Textbox(label="Seed", placeholder="random", min_width=120, elem_id="seed")
        with gr.Row():
            paint = gr.Button("Paint", variant="primary")
            stop = gr.Button("Stop", variant="stop", visible=False)
        status = gr.HTML(elem_id="painting", padding=False)
        picture = gr.Image(
            show_label=False,
            format="png",
            type="filepath",
            interactive=False,
            visible=False,
            buttons=["download", "fullscreen"],
            elem_id="picture",
        )
        gr.on(
            [paint.click, prompt.submit],
            self._paint,
            [prompt, self.picker, self.size, seed],
            [picture, status, paint, stop],
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="once",
            api_visibility="private",
        )
        # Not `cancels`: what it says and what the painting still says would race for the same line. Not
        # queued: Gradio closes the queue's stream as the painting ends, even on an event that just came in.
        stop.click(self._stop, queue=False, api_visibility="private")
        self.picker.change(self._sizes, self.picker, self.size, show_progress="hidden")

    def choices(self, models: Models) -> tuple[gr.Dropdown, gr.Dropdown]:
        """What to fill `picker` and `size` with."""
        names = list(models.image)
        first = names[0] if names else None
        return gr.Dropdown(choices=names, value=first, visible=len(names) > 1), self._sizes(first)

    def _sizes(self, model: str | None) -> gr.Dropdown:
        sizes = self._apis.image_sizes(model)
        return gr.Dropdown(choices=sizes, value=next(iter(sizes), None))

    async def _paint(
        self, prompt: str, model: str, size: str, seed: str, request: gr.Request
    ) -> AsyncGenerator[tuple[Any, ...], None]:
        idle = gr.Button(visible=True), gr.Button(visible=False)
        if wrong := _wrong(prompt, seed):
            yield gr.skip(), _told(wrong), *idle
            return
        busy = gr.Button(visible=False), gr.Button(visible=True)
        work = self._work[request.session_hash] = asyncio.ensure_future(
            self._apis.paint(model, prompt.strip(), size, int(seed) if seed.strip() else None)
        )
        began = time.monotonic()
        try:
            while not work.done():
                yield gr.skip(), f"Painting, {time.monotonic() - began:.0f} s", *busy
                await asyncio.wait([work], timeout=_TICK_S)
            if work.cancelled():
                yield gr.skip(), "Stopped.", *idle
                return
            picture = work.result()
            yield gr.Image(value=picture.image, visible=True), _figures(model, size, picture), *idle
        except ApiError as error:
            yield gr.skip(), _told(error.headline, error.advice), *idle
        finally:
            work.cancel()
            del self._work[request.session_hash]

    async def _stop(self, request: gr.Request) -> None:
        if work := self._work.get(request.session_hash):
            work.cancel()


def _wrong(prompt: str, seed: str) -> str | None:
    """What the API need not be asked."""
    if not prompt.strip():
        return "Say in the prompt what to paint."
    if not _SEED.fullmatch(seed.strip()):
        shown = seed.strip()[:20]
        return f"The seed {shown!r} is no whole number of up to 19 digits; leave it empty to have one drawn."
    return None


def _told(headline: str, advice: str = "") -> str:
    return f"⚠️ <b>{escape(headline)}</b> {escape(advice)}"


def _figures(model: str, size: str, picture: Picture) -> str:
    """HTML of the line over the image."""
    seed = [] if picture.seed is None else [f"seed {escape(picture.seed)}"]
    return " · ".join([f"<b>{escape(model)}</b>", escape(size), *seed, f"{picture.took_s:.1f} s"])
