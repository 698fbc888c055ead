"""Pages in headless Chromium: an app on a port of the loopback, a browser at an address, and what Gradio leaves behind."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(autouse=True)
def gradio_leftovers() -> Iterator[None]:
    """Gradio leaves event loops unclosed; they are collected here, where the warning does not count as ours."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def browsed(address: str, **context: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page of Chromium at the address; yields it and the requests that it makes."""
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        page = browser.new_context(**context).new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        yield page, requests
        browser.close()


def outside(requests: list[str], address: str) -> list[str]:
    return [url for url in requests if not url.startswith((address, "data:", "blob:"))]
