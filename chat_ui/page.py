"""The page: a conversation, the model that answers, and how fast it does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Soft

from chat_ui.apis import ApiError, Apis
from chat_ui.conversation import figures, notice, to_api

TITLE = "neuron-serve chat"
CSS = (Path(__file__).parent / "page.css").read_text()
# Fonts of the reader's own machine, because the page has to work without a way to the internet.
THEME = Soft(
    primary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
).set(block_border_width="1px", input_border_width="1px", block_shadow="none")
_EXAMPLES = [
    "What is the capital of France?",
    "Why is the sky blue? Answer in two sentences.",
    "Write a short poem about the sea.",
]
# Small models wander off at the API's default of 1.
_TEMPERATURE = 0.2
# How often a page without a model looks for one.
_LOOK_AGAIN_S = 5


def build(apis: Apis) -> gr.Blocks:
    """The page over these APIs."""

    async def answer(
        message: str, history: list[dict[str, Any]], model: str | None, temperature: float
    ) -> AsyncGenerator[tuple[Any, str], None]:
        name, last = model or "", None
        try:
            name = model or (await apis.models())[0]
            async with aclosing(apis.answer(name, to_api(history, message), temperature)) as pieces:
                async for last in pieces:
                    yield last.text, figures(name, last)
        except ApiError as error:
            said = [{"role": "assistant", "content": last.text}] if last else []
            yield [*said, notice(error)], figures(name, last)

    async def look_for_models() -> tuple[gr.Dropdown, str, gr.Timer]:
        try:
            names = await apis.models()
        except ApiError as error:
            return gr.Dropdown(), f"{error.headline}. {error.advice}", gr.Timer(active=True)
        picker = gr.Dropdown(choices=names, value=names[0], visible=len(names) > 1)
        return picker, figures(names[0]), gr.Timer(active=False)

    with gr.Blocks(title=TITLE, fill_height=True, analytics_enabled=False) as page:
        with gr.Row(elem_id="bar"):
            gr.Markdown(f"# {TITLE}")
            model = gr.Dropdown(
                label="Model", show_label=False, container=False, visible=False, elem_id="model"
            )
        status = gr.HTML(elem_id="figures", padding=False, render=False)
        gr.ChatInterface(
            answer,
            chatbot=gr.Chatbot(
                show_label=False,
                scale=1,
                layout="bubble",
                buttons=["copy"],
                placeholder="Ask the model something",
            ),
            textbox=gr.Textbox(
                placeholder="Type a message",
                show_label=False,
                container=False,
                scale=7,
                autofocus=True,
                submit_btn="Send",
                stop_btn="Stop",
            ),
            additional_inputs=[
                model,
                gr.Slider(0, 1.5, _TEMPERATURE, step=0.1, label="Temperature", render=False),
            ],
            additional_inputs_accordion=gr.Accordion("Settings", open=False, render=False),
            additional_outputs=[status],
            examples=[[example] for example in _EXAMPLES],
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        status.render()
        timer = gr.Timer(_LOOK_AGAIN_S, active=False)
        for event in (page.load, timer.tick):
            event(look_for_models, None, [model, status, timer], show_progress="hidden")
        model.change(figures, model, status, show_progress="hidden")
    return page
