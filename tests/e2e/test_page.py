"""The page at /docs in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect, sync_playwright

from tests.e2e.conftest import Service
from tests.programs import need


def test_the_page_sends_a_request_and_shows_the_response(service: Service) -> None:
    chromium = need("chromium")
    problems: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.goto(f"{service.url}/docs")
        route = page.locator("details.route").filter(
            has=page.locator("code", has_text=re.compile("^/v1/rerank$"))
        )
        if route.get_attribute("open") is None:
            route.locator("> summary").click()
        route.get_by_role("button", name="Send").click()
        expect(route.get_by_role("status")).to_contain_text("200", timeout=30_000)
        expect(route.locator("form pre")).to_contain_text("relevance_score")
        route.get_by_role("textbox").fill('{"query": "<img src=x onerror=alert(1)>"}')
        route.get_by_role("button", name="Send").click()
        expect(route.get_by_role("status")).to_contain_text("400")
        assert page.locator("img").count() == 0
        browser.close()
    assert problems == []
