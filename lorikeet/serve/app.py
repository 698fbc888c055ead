"""A plain chat page over one GGUF, on the same server as the API. Nothing on it comes from, or goes to, another machine."""

import contextlib
import html
import secrets
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lorikeet.conversation import Role
from lorikeet.engine import Sampling
from lorikeet.engine.guarded import FIRED, Guard, GuardedServer
from lorikeet.engine.server import LlamaServer
from lorikeet.errors import LorikeetError, MachineError
from lorikeet.progress import Progress
from lorikeet.released import Served
from lorikeet.serve import api
from lorikeet.serve.api import ANSWER_TOKENS, WAITING, Model

CLOSED = ("/gradio_api/upload", "/gradio_api/proxy=", "/gradio_api/process_recording", "/gradio_api/vibe", "/monitoring", "/gradio_api/deep_link")
"""Doors of Gradio that a chat does not need: storing files here, fetching from elsewhere, watching other users."""

CSS = """
.gradio-container { max-width: 48rem !important; margin: 0 auto !important; }
.head h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .25rem; }
.head p { margin: 0 0 .25rem; }
.head .file, .quiet { font-size: .8rem; opacity: .7; overflow-wrap: anywhere; }
.quiet { min-height: 1.2rem; text-align: right; }
#unreleased { position: sticky; top: 0; z-index: 100; }
.unreleased { background: #b00020; color: #fff; padding: .6rem .9rem; border-radius: 6px; }
.unreleased strong { color: #fff; }
button[aria-label="Retry"], [data-testid="status-tracker"], footer { display: none !important; }
"""
"""Retry is hidden because a greedy model would say the same again."""


def page(served: Served, engine: Model) -> gr.Blocks:
    """The chat: title, notice, file, examples, a stop button, and the speed of each answer."""

    def answer(message: str, history: list[dict[str, Any]], mode: str = "") -> Iterator[tuple[str, str]]:
        yield from _answer(served, engine, message, [] if served.single_turn else history, mode)

    modes = [name for name, _ in served.modes]

    with gr.Blocks(title=served.title, analytics_enabled=False, fill_height=True) as blocks:
        if not served.approved:
            gr.HTML(_banner(served), elem_id="unreleased", padding=False)
        gr.HTML(_head(served), padding=False)
        speed = gr.HTML("", elem_classes="quiet", elem_id="speed", padding=False, render=False)
        gr.ChatInterface(
            answer,
            chatbot=gr.Chatbot(show_label=False, placeholder=html.escape(served.greeting), buttons=["copy"], scale=1, min_height="20rem",
                               allow_tags=False, latex_delimiters=[], feedback_options=None),
            textbox=gr.Textbox(placeholder="Ask something", show_label=False, container=False, scale=7, max_lines=8, submit_btn=True, stop_btn=True),
            examples=[[example] for example in served.examples] or None,
            additional_inputs=[gr.Radio(modes, value=modes[0], label="How to answer")] if modes else None,
            additional_outputs=[speed],
            concurrency_limit=engine.slots,
            flagging_mode="never",
            show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        speed.render()
    return blocks.queue(max_size=WAITING)


def _answer(served: Served, engine: Model, message: str, history: Sequence[dict[str, Any]], mode: str) -> Iterator[tuple[str, str]]:
    """The answer as it grows, and at its end the speed. Gradio closes the generator when the user stops it."""
    turns: list[tuple[Role, str]] = [(_role(turn["role"]), _text(turn["content"])) for turn in history]
    prompt = engine.fitting(api.prompt_of([*turns, ("user", message)], served.prompt(mode)), ANSWER_TOKENS)
    text, speed = "", ""
    try:
        with contextlib.closing(engine.chunks(prompt, Sampling(max_tokens=ANSWER_TOKENS))) as chunks:
            for chunk in chunks:
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
                    if choice["finish_reason"] == FIRED:
                        text, speed = (choice["delta"].get("content") or "").strip(), "stopped by the guard"
                    if choice["finish_reason"] == "length":
                        speed = "cut short, "
                if "timings" in chunk:
                    speed += f"{chunk['usage']['completion_tokens']} tokens, {chunk['timings']['predicted_per_second']:.1f} a second"
                yield text, speed
    except LorikeetError as error:
        raise gr.Error(f"{error.message}; {error.cure}", title="No answer") from error


def _role(name: str) -> Role:
    return "assistant" if name == "assistant" else "user"


def _text(content: str | list[dict[str, Any]]) -> str:
    """A turn's text, as Gradio keeps it: a string, or a list of parts."""
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content)


def _head(served: Served) -> str:
    size = served.path.stat().st_size / 1e6
    notice = f'<p class="notice">{html.escape(served.notice)}</p>' if served.notice else ""
    file = f"{served.path.name}, {size:.0f} MB, {served.verdict.replace('-', ' ')}"
    return f'<div class="head"><h1>{html.escape(served.title)}</h1>{notice}<p class="file">{html.escape(file)}</p></div>'


def _banner(served: Served) -> str:
    text = f"This model has not passed its safety gate: {'; '.join(served.reasons)}. Do not rely on its answers."
    return f'<div class="unreleased" role="alert"><strong>Not released.</strong> {html.escape(text)}</div>'


class ClosedDoors:
    """Answers 404 at the doors of Gradio that stay closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"].startswith(CLOSED)
        await (PlainTextResponse("closed", 404) if closed else self._app)(scope, receive, send)


def mount(app: FastAPI, served: Served, engine: Model, key: str | None) -> FastAPI:
    """The page at "/" of the API's app. With a key the page asks for it as a password."""
    app.add_middleware(ClosedDoors)

    def known(user: str, password: str) -> bool:
        return key is not None and secrets.compare_digest(password.encode(), key.encode())

    system_fonts = [gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")]
    mono_fonts = [gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")]
    gr.mount_gradio_app(
        app,
        page(served, engine),
        path="/",
        auth=known if key else None,
        auth_message="Any user name; the password is the key of this server." if key else None,
        theme=gr.themes.Default(primary_hue="blue", font=system_fonts, font_mono=mono_fonts),
        css=CSS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=1,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        show_error=True,
    )
    return app


def serve(served: Served, host: str, port: int, key: str | None, threads: int, progress: Progress, guard: Guard | None = None) -> None:
    """Answer until interrupted. guard: rules that answers pass before they are shown.

    LorikeetError for an open door without a key, and for a port that cannot be had.
    """
    api.check_door(host, key)
    with _listening(host, port) as door:
        progress.say(f"loading {served.path.name}")
        server = LlamaServer(served.path, threads)
        engine = GuardedServer(server, guard) if guard else server
        app = mount(api.create(served, engine, host=host, key=key), served, engine, key)
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        progress.say(f"{served.title}: {address} (page), {address}/v1 (OpenAI-compatible API, model {served.name}); Ctrl-C ends it")
        try:
            config = uvicorn.Config(app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=2)
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[door])
        finally:
            engine.close()
            if isinstance(engine, GuardedServer) and guard:
                progress.say(f"{engine.fired} answers were stopped" + (f"; see {guard.log}" if engine.fired else ""))


def _listening(host: str, port: int) -> socket.socket:
    """The port, taken before the model is loaded."""
    if not 1 <= port <= 65535:
        raise LorikeetError(f"{port} is not a port to serve on", "choose one from 1024 to 65535 with --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        door = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MachineError(f"{host} is not an address of this machine: {error.strerror}", "use --host 127.0.0.1") from error
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen()
    except OSError as error:
        door.close()
        raise MachineError(f"cannot serve on {host} port {port}: {error.strerror}", "choose another with --port, or end what holds this one") from error
    return door
