"""How fast the widget is in Chromium: `python -m tests.browser.widget_pace`, with nothing else at work on the machine.

How long until its panel is painted, the work of each frame and of each token while an answer of 5,000 tokens comes at
100 in a second, and how far it moves the page around it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import CHROMIUM, FLAGS
from tests.browser.played_parley import PLAYED, Sites, played, tokens


@dataclass(frozen=True, slots=True)
class Pace:
    frames: list[float]  # milliseconds of work
    script: list[float]  # milliseconds of processor time in scripts for a token, by windows of equal length
    busy: list[float]  # the same of all work of the main thread
    shifts: dict[str, float]  # "all", and those "outside" the widget


def shop(browser: Browser, sites: Sites) -> Page:
    page = browser.new_context(viewport={"width": 1100, "height": 800}).new_page()
    page.add_init_script(PLAYED)
    page.goto(sites.shop)
    page.get_by_role("button", name="Chat").wait_for()
    return page


def meter(page: Page) -> Callable[[], dict[str, float]]:
    """Seconds of processor time that the main thread has spent, by what on: other processes do not add to it."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read() -> dict[str, float]:
        return {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}

    return read


def opened(page: Page) -> float:
    return float(page.evaluate("played.open()"))


def stream(page: Page, count: int, rate: float, windows: int) -> Pace:
    """An answer of `count` tokens, `rate` of them in a second."""
    read = meter(page)
    metrics: list[dict[str, float]] = []

    def look(_: int) -> None:
        metrics.append(read())

    page.expose_function("look", look)
    page.get_by_label("Your question").fill("How do I begin?")
    page.get_by_label("Your question").press("Enter")
    page.locator(".answer").wait_for()
    each = count // windows
    page.evaluate("played.watchFrames()")
    page.evaluate("([tokens, rate, every]) => played.stream(tokens, rate, every, look)", [tokens(count), rate, each])
    page.get_by_role("button", name="Stop answering").wait_for(state="detached")

    def spent(name: str) -> list[float]:
        return [(after[name] - before[name]) * 1000 / each for before, after in pairwise(metrics)]

    told: dict[str, Any] = page.evaluate("({ frames: played.frames, shifts: played.shifts })")
    return Pace(told["frames"], spent("ScriptDuration"), spent("TaskDuration"), told["shifts"])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with played() as sites, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        times, work = [], []
        for _ in range(9):
            page = shop(browser, sites)
            read = meter(page)
            before = read()["TaskDuration"]
            times.append(opened(page))
            work.append((read()["TaskDuration"] - before) * 1000)
        page = shop(browser, sites)
        opened(page)
        pace = stream(page, count, rate=100, windows=10)
        browser.close()
    cuts = statistics.quantiles(pace.frames, n=100)
    scripts = ", ".join(f"{(at + 1) * count // len(pace.script)}: {ms:.2f}" for at, ms in enumerate(pace.script))
    sys.stdout.write(
        f"first paint   median {statistics.median(times):.0f} ms of {len(times)}, longest {max(times):.0f} ms, "
        f"of which {statistics.median(work):.0f} ms work\n"
        f"frames        p50 {cuts[49]:.1f} ms, p95 {cuts[94]:.1f} ms, p99 {cuts[98]:.1f} ms of {len(pace.frames)}\n"
        f"script/token  {scripts} ms\n"
        f"all/token     {pace.busy[0]:.2f} ms at first, {pace.busy[-1]:.2f} ms at last\n"
        f"layout shift  {pace.shifts['outside']:.4f} of the page, {pace.shifts['all']:.4f} with the widget's own\n"
    )


if __name__ == "__main__":
    main()
