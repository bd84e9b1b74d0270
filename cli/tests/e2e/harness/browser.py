"""Headless Chromium for tests of the dashboard's pages, which notes what a page must not do."""

import os
import re

import pytest
from playwright.sync_api import expect, sync_playwright

from .paths import TOOLS

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

# How long a page may take to become what is expected of it; a busy machine may stop the browser and the gateway in turn.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def browser():
    program = TOOLS / "bin/chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(program if program.exists() else "/usr/bin/chromium"), args=FLAGS)
        yield launched
        launched.close()


class Visit:
    """A browser window that notes what a page must not do: ask another host, break the policy, throw."""

    def __init__(self, browser, admin, **options):
        self.admin, self.faults = admin, []
        self.context = browser.new_context(base_url=admin, **options)
        self.page = self.context.new_page()
        self.page.on("request", self._request)
        self.page.on("console", lambda message: self.faults.append(f"console {message.type}: {message.text}") if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))

    def _request(self, request):
        if not request.url.startswith((self.admin + "/", "data:", "blob:")):
            self.faults.append(f"asked for {request.url}")

    def sign_in(self, token):
        self.page.goto("/")
        expect(self.page).to_have_url(re.compile("/sign-in"))
        self.page.get_by_label("Token").fill(token)
        self.page.keyboard.press("Enter")
        expect(self.page).not_to_have_url(re.compile("/sign-in"))
        return self.page

    def close(self):
        self.context.close()
        assert not self.faults, "\n".join(self.faults)


@pytest.fixture
def visit(browser, cluster):
    visits = []

    def begin(**options):
        visits.append(Visit(browser, cluster.admin, **options))
        return visits[-1]

    yield begin
    for each in visits:
        each.close()


def picture(page, name):
    if folder := os.environ.get("DUNLIN_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
