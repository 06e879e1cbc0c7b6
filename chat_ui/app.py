"""The page as a web application, with a path for readiness probes."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI

from chat_ui import page
from chat_ui.apis import Apis
from chat_ui.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """`/health` says that the page is up, whatever the APIs behind it do; everything else is the page."""
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "ok"}

    return gr.mount_gradio_app(
        app,
        page.build(Apis(settings.base_urls, settings.api_key)),
        path="/",
        theme=page.THEME,
        css=page.CSS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
    )
