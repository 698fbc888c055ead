"""Serving: the API and the page on one port, over the models of a run. The API is api.py's, the page page.py's."""

import contextlib
import secrets
import socket
from collections.abc import Sequence
from typing import NamedTuple

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from lorikeet.engine.endpoint import endpoint
from lorikeet.engine.endpoint_voice import EndpointVoice
from lorikeet.engine.fleet import Fleet, Voice
from lorikeet.engine.guarded import Answering, Guard, GuardedServer
from lorikeet.engine.server import CONTEXT, SLOTS, WAITING
from lorikeet.errors import LorikeetError, MachineError, RecipeError
from lorikeet.progress import Progress
from lorikeet.released import Served
from lorikeet.serve import api
from lorikeet.serve.frame import CSS
from lorikeet.serve.offer import Offer, prompt_of
from lorikeet.serve.page import Record, page

CLOSED = ("/gradio_api/upload", "/gradio_api/proxy=", "/gradio_api/process_recording", "/gradio_api/vibe", "/monitoring", "/gradio_api/deep_link")
"""Doors of Gradio that a chat does not need: storing files here, fetching from elsewhere, watching other users."""


class ClosedDoors:
    """Answers 404 at the doors of Gradio that stay closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"].startswith(CLOSED)
        await (PlainTextResponse("closed", 404) if closed else self._app)(scope, receive, send)


def mount(app: FastAPI, offers: Sequence[Offer], key: str | None, record: Record | None = None) -> FastAPI:
    """The page at "/" of the API's app. With a key the page asks for it as a password."""
    return mount_page(app, page(offers, record, WAITING), key)


def mount_page(app: FastAPI, blocks: gr.Blocks, key: str | None = None) -> FastAPI:
    """A page at "/" of an app, closed as all of ours are. With a key it asks for it as a password."""
    app.add_middleware(ClosedDoors)

    def known(user: str, password: str) -> bool:
        return key is not None and secrets.compare_digest(password.encode(), key.encode())

    system_fonts = [gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")]
    mono_fonts = [gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")]
    gr.mount_gradio_app(
        app,
        blocks,
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


class Room(NamedTuple):
    """What the engine may take: threads, conversations at a time in each loaded file, and tokens of each conversation."""

    threads: int
    slots: int = SLOTS
    context: int = CONTEXT


def serve(served: Sequence[Served], host: str, port: int, key: str | None, room: Room, progress: Progress, guards: Sequence[Guard | None],
          record: Record | None = None, *, is_open: bool = False) -> None:  # fmt: skip
    """Answer until interrupted, the first of `served` where no model is named. guards: of each, rules that answers pass before they are shown. record: keeps
    ratings. is_open: anybody may come in without a key.

    LorikeetError for an open door without a key, for a port that cannot be had, and for two models of one name.
    """
    api.check_door(host, key, is_open=is_open)
    _require_names(served)
    with _listening(host, port) as door:
        progress.say(f"loading {served[0].path.name}")
        fleet = Fleet(*room)
        voices = [_voice(one, fleet) for one in served]
        if isinstance(voices[0], Voice):
            voices[0].warm(prompt_of([("user", "Hello.")], served[0].prompt()))
        models: list[Answering] = [GuardedServer(voice, guard) if guard else voice for voice, guard in zip(voices, guards, strict=True)]
        offers = [Offer(one, model) for one, model in zip(served, models, strict=True)]
        app = mount(api.create(offers, host=host, key=key, busy=fleet.counts, is_open=is_open), offers, key, record)
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        names = ", ".join(one.name for one in served)
        progress.say(f"{served[0].title}: {address} (page), {address}/v1 (OpenAI-compatible API, models: {names}); Ctrl-C ends it")
        try:
            _until_interrupted(app, door)
        finally:
            fleet.close()
            for log in dict.fromkeys(guard.log for guard in guards if guard):
                fired = sum(m.fired for m, guard in zip(models, guards, strict=True) if isinstance(m, GuardedServer) and guard and guard.log == log)
                progress.say(f"{fired} answers were stopped" + (f"; see {log}" if fired else ""))


def _voice(served: Served, fleet: Fleet) -> Voice | EndpointVoice:
    """What answers: a file of the fleet, or an endpoint."""
    return EndpointVoice(endpoint(served.address)) if served.address else fleet.add(served.path, served.adapter, speculate=served.layout == "email")


def serve_page(blocks: gr.Blocks, port: int, progress: Progress) -> None:
    """One page on this machine alone, until interrupted. LorikeetError for a port that cannot be had."""
    with _listening("127.0.0.1", port) as door:
        app = mount_page(FastAPI(docs_url=None, redoc_url=None, openapi_url=None), blocks)
        progress.say(f"{blocks.title}: http://127.0.0.1:{port}; Ctrl-C ends it")
        _until_interrupted(app, door)


def _until_interrupted(app: FastAPI, door: socket.socket) -> None:
    config = uvicorn.Config(app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=2)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[door])


def _require_names(served: Sequence[Served]) -> None:
    names = [one.name for one in served]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise RecipeError(f"two models are called {twice!r}, and a request could not name one of them", "rename one of the files, or serve them apart")


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
