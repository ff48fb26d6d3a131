#!/usr/bin/env python3
"""Takes screenshots of a report's page in a browser, and fails if the page does not work.

    scripts/screenshot_report.py results/reference/report/index.html --out target/pictures

At desktop and phone size, light and dark, it opens the page without network access, hovers over a
chart, reads it by keyboard, opens a run's settings and selects other curves. Exit code 1 if the
page makes a request, logs an error to its console, is wider than the screen, or does not react as
expected.

Needs Chromium or Chrome on the PATH (or --browser). Installs Playwright from PyPI into
third_party/python-playwright (0.2 GB on disk).
"""

import argparse
import pathlib
import shutil
import sys

import parity

PACKAGES = parity.ROOT / "third_party" / "python-playwright"
PINS = ["playwright==1.65.2"]
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


def look(browser, page_file, out, screen, scheme):
    """Tests one screen size in one colour scheme; returns a list of failures."""
    width, height = SCREENS[screen]
    wrong = []
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=2 if screen == "phone" else 1,
        has_touch=screen == "phone",
        offline=True,
    )
    page = context.new_page()
    address = page_file.as_uri()
    page.on("console", lambda said: said.type == "error" and wrong.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("request", lambda asked: asked.url.startswith(("data:", address))
            or wrong.append(f"requests {asked.url}"))
    page.goto(address)
    page.wait_for_selector("#curves svg.chart path")

    def picture(name, whole=False):
        page.screenshot(path=out / f"{screen}-{scheme}-{name}.png", full_page=whole)

    def expect(what, true):
        if not true:
            wrong.append(what)

    picture("top")
    picture("whole", whole=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    expect(f"the page is {wide} pixels wide", wide <= width)

    # Of several tasks the second has several curves more often.
    chart = page.locator("#curves svg.chart").nth(min(1, page.locator("#curves svg.chart").count() - 1))
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.4)
    expect("hovering shows no values", page.locator("#tip table tr").count() > 0)
    picture("hover")
    page.mouse.move(0, 0)
    chart.focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect("arrow keys read no values", page.locator("#spoken").inner_text() != "")
    page.keyboard.press("Escape")
    expect("Escape does not hide the values", page.locator("#tip").is_hidden())

    page.locator("#x").select_option("wall")
    page.locator("#seeds").check()
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves svg.chart path")
    picture("wall-clock")
    page.locator("#x").select_option("steps")
    rows = page.locator("#scores tbody tr").count()
    page.locator("#algorithms button").first.click()
    expect("a chip does not hide its algorithm", page.locator("#scores tbody tr").count() < rows)
    page.locator("#algorithms button").first.click()

    settings = page.locator("#runs button")
    if settings.count():
        settings.last.click()
        expect("a run's settings do not open", page.locator("dialog[open] tbody tr").count() > 5)
        picture("settings")
        page.keyboard.press("Escape")
        expect("Escape does not close the settings", page.locator("dialog[open]").count() == 0)
    replays = page.get_by_role("button", name="Replay of")
    if replays.count():
        replays.first.click()
        # Drawn or not (this browser may have no WebGL2): screenshot_show.py tests the drawing.
        replay = page.frame_locator("#replay iframe").locator("html[data-ready]")
        replay.wait_for(state="attached")
        picture("replay")
        page.keyboard.press("Escape")
        expect("a closed replay goes on", page.locator("#replay iframe").count() == 0)
    context.close()
    return wrong


def run(look, about, page, missing, drawing):
    """The command: `look` at a page at every size, in both schemes; exit code 1 if something is wrong.

    `about` is the program's description, `page` and `missing` say what the page is and what makes
    it, and `drawing` are options of the browser.
    """
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("page", type=pathlib.Path, help=page)
    parser.add_argument("--out", type=pathlib.Path, default=parity.ROOT / "target" / "pictures")
    parser.add_argument("--browser", help="path of Chromium")
    args = parser.parse_args()
    program = args.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        parity.fail(f"no browser found (tried {', '.join(BROWSERS)}); set --browser")
    if not args.page.is_file():
        parity.fail(f"{args.page}: no such file; {missing}")
    if not parity.install(PACKAGES, PINS, "0.2 GB on the disk"):
        parity.fail(f"pip cannot install {' '.join(PINS)}, see above")
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=drawing)
        for screen in SCREENS:
            for scheme in ("light", "dark"):
                found = look(browser, args.page.resolve(), args.out, screen, scheme)
                wrong += [f"{screen}, {scheme}: {what}" for what in found]
        browser.close()
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    print(f"pictures are in {args.out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    made = "`runner report DIR` writes DIR/report/index.html"
    run(look, __doc__, "a report's index.html", made, QUIET)
