#!/usr/bin/env python3
"""Takes screenshots of a page of `runner show` in a browser, and fails if the page does not work.

    scripts/screenshot_show.py results/smfp/HalfCheetah-v4/seed-0/show.html --out target/pictures

At desktop and phone size, light and dark, it opens the page without network access, looks for the
robots and their shadows among the pixels, plays, uses the slider, the keyboard, the pointer and
other episodes, and compares the returns that the page adds up with those in its data. On a page of
`--live` it also simulates: it pulls and shoves the robot, changes gravity and damping, and compares
the returns of ten episodes with the recorded ones (make the page with --episodes 10). Exit code 1 if
the page makes a request, logs an error to its console, is wider than the screen, or does not react
as expected.

Needs Chromium or Chrome on the PATH (or --browser), but no GPU. Installs Playwright from PyPI into
third_party/python-playwright (0.2 GB on disk).
"""

import base64
import statistics

import screenshot_report
from screenshot_report import SCREENS

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


# Where the robot is after 40 steps without noise, from the first state, alone and with a shove.
SHOVED = """() => [false, true].map((shove) => {
  const live = viewer.live;
  live.task.reset(live.states[0]);
  if (shove) live.shove(1);
  viewer.play(false);
  for (let t = 0; t < 40; t++) live.task.step(live.policy.act(live.task.observe(), {}));
  return [...live.task.data.qpos];
})"""

# Returns of ten episodes of the browser's, from the recorded initial states.
TEN = """() => Array.from({ length: 10 }, (_, i) => {
  const live = viewer.live;
  live.task.reset(live.states[i]);
  while (!live.task.ended && live.task.steps < 1000) live.step();
  return live.task.total;
})"""


def wait(page, what, seconds):
    """Waits until an expression is true; says whether it became so. (The page's policy forbids
    Playwright's own `wait_for_function`.)"""
    for _ in range(10 * seconds):
        if page.evaluate(what):
            return True
        page.wait_for_timeout(100)
    return False


def simulate(page, expect, picture, ten):
    """Tests live mode; `ten` says whether ten episodes are compared, which takes a while."""
    page.locator("#mode-live").click()
    if not wait(page, "viewer.live.on", 60):
        expect("live mode does not begin", False)
        return
    step = page.evaluate("viewer.live.task.steps")
    expect("the live robot does not move", wait(page, f"viewer.live.task.steps > {step}", 20))
    checked = wait(page, "document.getElementById('checked').textContent.includes('add up')", 120)
    expect("live mode is not compared with the native simulation", checked)
    gap = page.evaluate(
        "viewer.live.simulators.get(viewer.live.run).compared.then(({ positions, reward }) => [...positions[0], reward])"
    )
    expect(f"a live step differs from the native one: {gap}", gap[0] == 1 and gap[1] < 1e-6 and gap[2] < 1e-5)

    # Its middle on the screen, where a part of it may or may not be: the nearest part is taken.
    x, y = page.evaluate(
        """() => {
          viewer.play(false);
          const live = viewer.live;
          live.again();
          live.draw();
          const box = viewer.canvas.getBoundingClientRect();
          const from = live.task.data.xipos.subarray(3 * live.root, 3 * live.root + 3);
          const [x, y] = live.project([...from], box);
          return [x + box.left, y + box.top];
        }"""
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y - 60, steps=3)
    expect("the pointer does not take hold of the robot", page.evaluate("viewer.live.held !== null"))
    page.wait_for_timeout(700)
    picture("pull")
    page.mouse.up()
    expect("the robot is held after the pointer is up", page.evaluate("viewer.live.held === null"))
    wide = page.evaluate("document.documentElement.scrollWidth")
    expect(f"live mode is {wide} pixels wide", wide <= page.viewport_size["width"])
    alone, shoved = page.evaluate(SHOVED)
    moved = max(abs(a - b) for a, b in zip(alone, shoved))
    expect(f"a shove moves it by {moved} only", moved > 0.01)
    model = "viewer.live.task.model"
    damping = page.evaluate(f"[...{model}.dof_damping]")
    page.locator("#gravity").fill("0.5")
    page.locator("#damping").fill("1")
    expect("gravity does not change", abs(page.evaluate(f"{model}.opt.gravity[2]") + 4.905) < 1e-9)
    changed = [10 * x for x in damping]
    found = page.evaluate(f"[...{model}.dof_damping]")
    expect("damping does not change", all(abs(a - b) < 1e-9 for a, b in zip(found, changed)))
    page.locator("#restore").click()
    expect("the model is not restored", page.evaluate(f"[...{model}.dof_damping]") == damping)
    if ten:
        native = page.evaluate("viewer.live.run.episodes.map((episode) => episode.return)")
        here = page.evaluate(TEN)
        means = [statistics.mean(returns) for returns in (native, here)]
        # Three standard errors of the difference.
        error = sum(statistics.variance(x) / len(x) for x in (native, here)) ** 0.5 if len(native) > 1 else 0
        print(f"mean return of 10 episodes: {means[1]:.1f} live, {means[0]:.1f} native ({len(native)} episodes)")
        expect(f"returns are {here}, natively {native}", abs(means[0] - means[1]) <= 3 * error + 0.01 * abs(means[0]))
    page.locator("#mode-replays").click()
    expect("replays do not come back", page.locator("#slider").is_visible())


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
    page.on("request", lambda asked: asked.url.startswith(("data:", "blob:null/", address))
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
    # (Two equal pictures may both be from before the key, where the processor is busy.)
    reset = any(picture("orbit") == still for _ in range(10))
    expect("R does not reset the view", reset)

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
    expect("playing does not advance", wait(page, "viewer.time > 0.1", 10))  # slow without a GPU
    page.keyboard.press(" ")
    if page.evaluate("'live' in data"):
        simulate(page, expect, picture, ten=screen == "desktop" and scheme == "light")
    page.locator("#theme").click()
    swapped = page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    expect(f"the button leaves the page {swapped}", swapped == {"light": "dark", "dark": "light"}[scheme])
    context.close()
    return wrong


if __name__ == "__main__":
    made = "`runner show --run DIR` writes DIR/show.html"
    screenshot_report.run(look, __doc__, "a page of `runner show`", made, DRAWING)
