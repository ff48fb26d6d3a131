#!/usr/bin/env python3
"""Takes screenshots of a page of `runner show` in a browser, and fails if the page does not work.

    scripts/screenshot_show.py results/smfp/HalfCheetah-v4/seed-0/show.html --out target/pictures

At desktop and phone size, light and dark, it opens the page without network access, looks for the
robots and their shadows among the pixels, plays, uses the slider, the keyboard, the pointer and
other episodes, and compares the returns that the page adds up with those in its data. Exit code 1 if
the page makes a request, logs an error to its console, is wider than the screen, or does not react
as expected.

Needs Chromium or Chrome on the PATH (or --browser), but no GPU. Installs Playwright from PyPI into
third_party/python-playwright (0.2 GB on disk).
"""

import argparse
import base64
import pathlib
import shutil
import sys

import parity
from screenshot_report import BROWSERS, PACKAGES, PINS, SCREENS

# Chromium's own software renderer, so that the pixels do not depend on a driver.
DRAWING = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
DRAWING += ["--enable-unsafe-swiftshader", "--disable-background-networking", "--disable-sync"]

# Shares of a picture's pixels that are colourful (robots; floor and sky are nearly grey), and the
# number of different colours.
COUNT = """async (source) => {
  const picture = new Image();
  picture.src = source;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"),
    { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  let colourful = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b] = data.subarray(i, i + 3);
    colourful += Math.max(r, g, b) - Math.min(r, g, b) > 48;
    colours.add((r << 16) | (g << 8) | b);
  }
  return { colourful: colourful / (data.length / 4), colours: colours.size };
}"""


def look(browser, page_file, out, screen, scheme):
    """Tests one screen size in one colour scheme; returns a list of failures."""
    width, height = SCREENS[screen]
    wrong = []
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=screen == "phone",
        reduced_motion="reduce",  # otherwise the page plays at once
        offline=True,
    )
    page = context.new_page()
    address = page_file.as_uri()
    page.on("console", lambda said: said.type == "error" and wrong.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("request", lambda asked: asked.url.startswith(("data:", address))
            or wrong.append(f"requests {asked.url}"))
    page.goto(address)
    page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
    runs = page.evaluate("data.runs.map((run) => run.episodes)")

    def expect(what, true):
        if not true:
            wrong.append(what)

    def picture(name):
        """The stage, when it no longer changes: a software renderer may be late."""
        before = None
        for _ in range(20):
            page.wait_for_timeout(200)
            file = out / f"show-{screen}-{scheme}-{name}.png"
            now = page.locator("#stage").screenshot(path=file)
            if now == before:
                break
            before = now
        return now

    def seek(share):
        page.evaluate(
            """(share) => {
              const slider = document.getElementById("slider");
              slider.value = slider.max * share;
              slider.dispatchEvent(new Event("input"));
            }""",
            share,
        )

    def now():
        return float(page.locator("#slider").input_value())

    def scores():
        return page.locator(".panel .score b").all_inner_texts()

    first = picture("start")
    found = page.evaluate(COUNT, "data:image/png;base64," + base64.b64encode(first).decode())
    expect(f"no robot among the pixels: {found}", found["colourful"] > 0.003)
    expect(f"no shading among the pixels: {found}", found["colours"] > 300)
    wide = page.evaluate("document.documentElement.scrollWidth")
    expect(f"the page is {wide} pixels wide", wide <= width)

    seek(0.5)
    middle = picture("middle")
    expect("the slider does not move the robot", middle != first)
    before = now()
    page.locator("#slider").focus()
    page.keyboard.press("ArrowRight")
    dt = page.evaluate("Math.min(...data.runs.map((run) => run.dt))")
    expect("an arrow key is not a frame", abs(now() - before - dt) < 1.01 * dt)
    page.screenshot(path=out / f"show-{screen}-{scheme}-whole.png", full_page=True)

    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("End")
    picture("end")
    expected = page.evaluate("data.runs.map((run) => digits(run.episodes[0].return))")
    expect(f"returns are {scores()}, in the data {expected}", scores() == expected)
    expect("the end of an episode is not told", page.locator(".panel .end:visible").count() > 0)

    seek(0.3)
    still = picture("orbit")
    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.4, steps=4)
    page.mouse.up()
    expect("dragging does not orbit", picture("orbit") != still)
    page.evaluate("document.activeElement.blur()")  # its outline is part of the picture
    page.keyboard.press("r")
    expect("R does not reset the view", picture("orbit") == still)

    if len(runs[0]) > 1:
        page.keyboard.press("2")
        for _ in range(50):
            if page.locator("#episode").input_value() == "1":
                break
            page.wait_for_timeout(100)
        page.keyboard.press("End")
        picture("second")
        expected = page.evaluate("data.runs.map((run) => digits(run.episodes.at(1).return))")
        expect("another episode is not shown", scores() == expected)
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    page.wait_for_timeout(1500)
    page.keyboard.press(" ")
    expect("playing does not advance", now() > 0)
    page.locator("#theme").click()
    swapped = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    expect(f"the button leaves the page {swapped}", swapped == {"light": "dark", "dark": "light"}[scheme])
    context.close()
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=pathlib.Path, help="a page of `runner show`")
    parser.add_argument("--out", type=pathlib.Path, default=parity.ROOT / "target" / "pictures")
    parser.add_argument("--browser", help="path of Chromium")
    args = parser.parse_args()
    program = args.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        parity.fail(f"no browser found (tried {', '.join(BROWSERS)}); set --browser")
    if not args.page.is_file():
        parity.fail(f"{args.page}: no such file; `runner show --run DIR` writes DIR/show.html")
    if not parity.install(PACKAGES, PINS, "0.2 GB on the disk"):
        parity.fail(f"pip cannot install {' '.join(PINS)}, see above")
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=DRAWING)
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
    main()
