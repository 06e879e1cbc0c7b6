"""The tab with the conversation: who answers, how, and how fast."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr

from chat_ui.apis import Apis, Models
from chat_ui.conversation import figures, notice, to_api
from chat_ui.errors import ApiError
from chat_ui.export import SAVE, as_json, as_markdown

_EXAMPLES = [
    "What is the capital of France?",
    "Why is the sky blue? Answer in two sentences.",
    "Write a short poem about the sea.",
]
# Small models wander off at the API's default of 1.
_TEMPERATURE = 0.2


class ChatTab:
    """Renders into the tab that is open. `picker` and `status` are for the page to fill, by `choices`."""

    def __init__(self, apis: Apis) -> None:
        self._apis = apis
        self.picker = gr.Dropdown(
            label="Model", show_label=False, container=False, visible=False, elem_id="model"
        )
        self.status = gr.HTML(elem_id="figures", padding=False, render=False)
        self._system = gr.Textbox(
            "",
            label="System prompt",
            placeholder="What the model is told first, for example: Answer in one sentence.",
            lines=2,
            render=False,
        )
        self._temperature = gr.Slider(0, 1.5, _TEMPERATURE, step=0.1, label="Temperature", render=False)
        conversation = self._conversation()
        with gr.Row(elem_id="foot"):
            self.status.render()
            with gr.Row(elem_id="save"):
                self._save_button("Save as Markdown", as_markdown, conversation)
                self._save_button("Save as JSON", as_json, conversation)
        self.picker.change(figures, self.picker, self.status, show_progress="hidden")

    def choices(self, models: Models) -> tuple[gr.Dropdown, str]:
        """What to fill `picker` and `status` with; there is a model."""
        first = models.chat[0]
        picker = gr.Dropdown(choices=models.chat, value=first, visible=len(models.chat) > 1)
        return picker, figures(first)

    def _conversation(self) -> gr.Chatbot:
        interface = gr.ChatInterface(
            self._answer,
            chatbot=gr.Chatbot(
                show_label=False,
                height="calc(100dvh - 330px)",
                min_height=280,
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
                elem_id="message",
            ),
            additional_inputs=[self.picker, self._system, self._temperature],
            additional_inputs_accordion=gr.Accordion("Settings", open=False, render=False),
            additional_outputs=[self.status],
            examples=[[example] for example in _EXAMPLES],
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        return interface.chatbot

    async def _answer(
        self, message: str, history: list[dict[str, Any]], model: str | None, system: str, temperature: float
    ) -> AsyncGenerator[tuple[Any, str], None]:
        name, last = model or "", None
        try:
            name = model or await self._first_model()
            messages = to_api(history, message, system)
            async with aclosing(self._apis.answer(name, messages, temperature)) as pieces:
                async for last in pieces:
                    yield last.text, figures(name, last)
        except ApiError as error:
            said = [{"role": "assistant", "content": last.text}] if last else []
            yield [*said, notice(error)], figures(name, last)

    async def _first_model(self) -> str:
        found = (await self._apis.models()).chat
        if not found:
            raise ApiError("No model chats here", "Serve one, and say with --base-urls where.")
        return found[0]

    def _save_button(
        self, label: str, convert: Callable[..., dict[str, str] | None], conversation: gr.Chatbot
    ) -> None:
        file = gr.JSON(visible=False)
        inputs = [conversation, self.picker, self._system, self._temperature]

        def converted(*values: Any) -> dict[str, str] | None:
            found = convert(*values)
            if found is None:
                gr.Info("There is no conversation to save yet.")
            return found

        button = gr.Button(label, size="sm", variant="secondary", min_width=0, elem_classes="save")
        clicked = button.click(converted, inputs, file, show_progress="hidden", api_visibility="private")
        clicked.then(None, file, None, js=SAVE, api_visibility="private")
