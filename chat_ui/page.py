"""The page: a tab to chat in and one to paint in, as far as there are models for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Soft

from chat_ui.apis import Apis
from chat_ui.chat_tab import ChatTab
from chat_ui.errors import ApiError
from chat_ui.image_tab import ImageTab

TITLE = "neuron-serve chat"
CSS = (Path(__file__).parent / "page.css").read_text()
# Fonts of the reader's own machine, because the page has to work without a way to the internet.
THEME = Soft(
    primary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
).set(block_border_width="1px", input_border_width="1px", block_shadow="none")
# How often a page without a model looks for one.
_LOOK_AGAIN_S = 5
# Gradio keeps a file for every image it shows: how often it looks for old ones, and how old they may get.
_FILES_S = (600, 3600)
_CHAT, _IMAGE = "chat", "image"


def build(apis: Apis) -> gr.Blocks:
    """The page over these APIs."""
    with gr.Blocks(title=TITLE, fill_height=True, analytics_enabled=False, delete_cache=_FILES_S) as page:
        gr.Markdown(f"# {TITLE}", elem_id="title")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Chat", id=_CHAT, visible=False) as chat_tab:
                chat = ChatTab(apis)
            with gr.Tab("Images", id=_IMAGE, visible=False) as image_tab:
                image = ImageTab(apis)
        timer = gr.Timer(_LOOK_AGAIN_S, active=False)
        filled = [tabs, chat_tab, chat.picker, chat.status, image_tab, image.picker, image.size, timer]

        async def look_for_models() -> dict[Any, Any]:
            try:
                models = await apis.models()
            except ApiError as error:
                said = f"{error.headline}. {error.advice}"
                return {chat.status: said, chat_tab: gr.Tab(visible=True), timer: gr.Timer(active=True)}
            found: dict[Any, Any] = {timer: gr.Timer(active=False)}
            if models.chat:
                found[chat_tab] = gr.Tab(visible=True)
                found[chat.picker], found[chat.status] = chat.choices(models)
            if models.image:
                found[image_tab] = gr.Tab(visible=True)
                found[image.picker], found[image.size] = image.choices(models)
            if not models.chat:
                found[chat_tab], found[tabs] = gr.Tab(visible=False), gr.Tabs(selected=_IMAGE)
            return found

        for event in (page.load, timer.tick):
            event(look_for_models, None, filled, show_progress="hidden")
    return page
