// The page: panels, clock, controls.

const at = (id) => document.getElementById(id);
const ICONS = {
  play: "M4 2.5v11l9.5-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  back: "M3 3h2v10H3zM13.5 3v10L6.5 8z",
  forth: "M11 3h2v10h-2zM2.5 3v10l7-5z",
};

function icon(button, name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  button.replaceChildren(svg);
}

function element(tag, name, ...children) {
  const node = document.createElement(tag);
  node.className = name;
  node.append(...children);
  return node;
}

const ENDS = {
  terminated: "ended in a terminal state",
  truncated: "time limit",
  diverged: "the simulation diverged",
};

/** A run on the stage. */
class Panel {
  constructor(run, place, focus) {
    this.run = run;
    this.place = place;
    this.colour = `--c${place % 6}`;
    this.scene = data.scenes[run.scene];
    const dot = element("span", "dot");
    dot.style.color = `var(${this.colour})`;
    this.name = element("button", "name", dot, run.name);
    this.name.type = "button";
    this.name.addEventListener("click", () => focus(place));
    this.sum = document.createElement("b");
    this.step = document.createElement("span");
    this.end = element("div", "end");
    this.node = element(
      "div",
      "panel",
      element("div", "who", this.name, element("div", "about", run.about)),
      element("div", "score", this.sum, this.step),
      this.end,
    );
  }

  /** Shows an episode. */
  load(episode, parts) {
    this.parts = parts[this.run.scene];
    this.episode = episode;
    const { bodies } = episode;
    this.pose = { positions: new Float32Array(bodies * 3), orientations: new Float32Array(bodies * 4) };
    this.measure();
  }

  /** Finds the robot, how large it is, and its path, smoothed so that the camera is calm. */
  measure() {
    const { episode, scene, pose } = this;
    episode.pose(0, pose);
    const moving = (this.parts ?? []).filter((part) => part.body > 0 && !part.infinite);
    const weight = new Map();
    for (const part of moving) {
      const root = scene.roots[part.body];
      weight.set(root, (weight.get(root) ?? 0) + 1);
    }
    const robot = [...weight].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 0;
    this.robot = robot;
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    for (const part of moving) {
      const { body, local, radius } = part;
      const place = placed(pose.orientations.subarray(body * 4), pose.positions.subarray(body * 3));
      const centre = through(place, [local[12], local[13], local[14]]);
      for (let i = 0; i < 3; i++) {
        low[i] = Math.min(low[i], centre[i] - radius * 0.8);
        high[i] = Math.max(high[i], centre[i] + radius * 0.8);
      }
    }
    if (!moving.length) [low, high].forEach((edge, k) => edge.fill(k * 2 - 1));
    this.reach = Math.max(0.05, 0.54 * Math.hypot(...sub(high, low)));
    const middle = low.map((x, i) => (x + high[i]) / 2);
    const path = (frame) => {
      const first = (frame * episode.bodies + robot) * 3;
      return episode.positions.subarray(first, first + 3);
    };
    const start = [...path(0)];
    this.offset = sub(middle, start);
    this.track = new Float32Array(episode.frames * 3);
    const window = Math.max(1, Math.round(0.35 / episode.dt));
    for (let i = 0; i < 3; i++) {
      let sum = 0;
      let [from, to] = [0, 0]; // the frames that are summed: from <= frame < to
      for (let frame = 0; frame < episode.frames; frame++) {
        while (to < Math.min(episode.frames, frame + window + 1)) sum += path(to++)[i];
        while (from < frame - window) sum -= path(from++)[i];
        const moved = sum / (to - from) - start[i];
        // Height follows less: a jump should look like one.
        this.track[frame * 3 + i] = middle[i] + (i === 2 ? 0.4 : 1) * moved;
      }
    }
  }

  /** Draws the moment, and says what it is. */
  draw(renderer, rect, camera, time, follow) {
    const { episode } = this;
    episode.pose(time, this.pose);
    const frame = follow ? episode.frame(time) : 0;
    const next = Math.min(frame + 1, episode.frames - 1);
    const w = follow ? Math.min(1, Math.max(0, time / episode.dt - frame)) : 0;
    const centre = [0, 1, 2].map((i) => this.track[frame * 3 + i] * (1 - w) + this.track[next * 3 + i] * w);
    const view = camera.place(centre, this.reach, rect.width / rect.height);
    renderer?.draw(rect, this.parts, this.pose, view, this.reach);
    Object.assign(this.node.style, {
      left: `${rect.left}px`,
      top: `${rect.top}px`,
      width: `${rect.width}px`,
      height: `${rect.height}px`,
    });
    const now = episode.frame(time);
    this.sum.textContent = digits(episode.sums[now]);
    this.step.textContent = `of ${digits(episode.return)} · step ${now.toLocaleString("en")}`;
    this.end.hidden = now < episode.frames - 1;
    this.end.textContent = `${ENDS[episode.end]} after ${episode.steps.toLocaleString("en")} steps`;
  }
}

class Viewer {
  constructor() {
    this.time = 0;
    this.playing = false;
    this.focus = data.runs.length - 1; // a trained policy comes after the untrained one
    this.place = 0;
    this.canvas = at("view");
    this.camera = new Camera(this.canvas, () => this.touch());
    try {
      this.renderer = new Renderer(this.canvas);
      this.canvas.addEventListener("webglcontextlost", () => {
        this.renderer = null;
        this.warn("The graphics driver stopped; reload the page to draw again.");
      });
    } catch (error) {
      this.warn(`The robots can't be drawn: ${error.message}. The plots work.`);
    }
    this.panels = data.runs.map((run, place) => new Panel(run, place, (to) => this.look(to)));
    at("panels").append(...this.panels.map((panel) => panel.node));
    const plot = (name) => new Plot(at(`plot-${name}`), 160, (time) => this.seek(time));
    this.plots = Object.fromEntries(["return", "terms", "actions", "contacts"].map((n) => [n, plot(n)]));
  }

  warn(text) {
    at("notice").textContent = text;
    at("notice").hidden = false;
  }

  async begin() {
    this.parts = this.renderer && (await Promise.all(data.scenes.map((scene) => this.renderer.parts(scene))));
    this.texts();
    this.controls();
    await this.choose(0);
    new ResizeObserver(() => this.prepare()).observe(document.body);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.prepare());
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.play(true);
    document.documentElement.dataset.ready = "true";
  }

  texts() {
    const tasks = [...new Set(data.runs.map((run) => run.task))].join(", ");
    document.title = at("title").textContent = tasks;
    const count = Math.max(...data.runs.map((run) => run.episodes.length));
    const names = [...new Set(data.runs.map((run) => run.name))].join(" and ");
    at("summary").textContent =
      `${count} episode${count > 1 ? "s" : ""} of ${names}, simulated by MuJoCo ${data.mujoco}`;
    at("episode").replaceChildren(
      ...Array.from({ length: count }, (_, i) => new Option(`${i + 1} of ${count}`, i)),
    );
    const reduced = data.scenes.flatMap(({ reduced }) => reduced ?? []);
    const number = (n) => n.toLocaleString("en");
    const remarks = reduced.map(
      ({ before, after }) =>
        `The meshes are drawn with ${number(after)} of their ${number(before)} triangles.`,
    );
    at("foot").replaceChildren(...remarks.flatMap((line) => [line, document.createElement("br")]));
    if (data.command) at("foot").append("Made by ", element("code", "", data.command));
  }

  controls() {
    icon(at("play"), "play");
    icon(at("back"), "back");
    icon(at("forth"), "forth");
    at("play").addEventListener("click", () => this.play(!this.playing));
    at("back").addEventListener("click", () => this.go(-1));
    at("forth").addEventListener("click", () => this.go(1));
    at("slider").addEventListener("input", () => this.seek(Number(at("slider").value)));
    at("episode").addEventListener("change", () => this.choose(Number(at("episode").value)));
    at("follow").addEventListener("change", () => this.touch());
    at("reset").addEventListener("click", () => this.camera.reset());
    at("theme").addEventListener("click", () => {
      document.documentElement.style.colorScheme = this.dark() ? "light" : "dark";
      this.prepare();
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  /** A name that no other run has, where that is possible. */
  short(run) {
    const alone = data.runs.filter((other) => other.name === run.name).length === 1;
    return alone ? run.name : `${run.name} (${run.about})`;
  }

  dark() {
    return rgb("--ground").reduce((sum, x) => sum + x) < 1.5;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const within = event.target.closest("select, summary, input[type=checkbox], button, #live input");
    if (within && [" ", "Enter", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].includes(event.key))
      return;
    if (this.live?.key(event)) return;
    const speed = at("speed");
    const faster = (by) => {
      speed.selectedIndex = Math.max(0, Math.min(speed.length - 1, speed.selectedIndex + by));
    };
    const keys = {
      " ": () => this.play(!this.playing),
      ArrowLeft: () => this.go(event.shiftKey ? -10 : -1),
      ArrowRight: () => this.go(event.shiftKey ? 10 : 1),
      Home: () => this.seek(0),
      End: () => this.seek(this.duration),
      ",": () => faster(-1),
      ".": () => faster(1),
      a: () => this.camera.orbitBy(-0.1, 0),
      d: () => this.camera.orbitBy(0.1, 0),
      w: () => this.camera.orbitBy(0, 0.08),
      s: () => this.camera.orbitBy(0, -0.08),
      "+": () => this.camera.zoomBy(1 / 1.15),
      "=": () => this.camera.zoomBy(1 / 1.15),
      "-": () => this.camera.zoomBy(1.15),
      f: () => at("follow").click(),
      r: () => this.camera.reset(),
    };
    const digit = Number(event.key);
    const action =
      digit >= 1 && digit <= at("episode").length
        ? () => this.choose(digit - 1)
        : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** Shows an episode of every run. */
  async choose(place) {
    this.place = place;
    const episodes = await Promise.all(
      this.panels.map(({ run }) => Episode.read(run, Math.min(place, run.episodes.length - 1))),
    );
    if (this.place !== place) return; // another one was chosen meanwhile
    at("episode").value = place;
    this.panels.forEach((panel, i) => panel.load(episodes[i], this.parts ?? []));
    this.duration = Math.max(...this.panels.map((panel) => panel.episode.duration));
    this.dt = Math.min(...this.panels.map((panel) => panel.episode.dt));
    at("slider").max = this.duration;
    this.time = 0;
    this.prepare();
  }

  /** Shows the plots of a run. */
  look(place) {
    this.focus = place;
    this.prepare();
  }

  play(on) {
    if (on && this.time >= this.duration && !this.live?.on) this.time = 0;
    this.playing = on;
    icon(at("play"), on ? "pause" : "play");
    at("play").setAttribute("aria-label", on ? "Pause" : "Play");
    this.last = null;
    this.touch();
  }

  seek(time) {
    this.time = Math.max(0, Math.min(this.duration, time));
    this.touch();
  }

  /** Moves by frames, and stops there. */
  go(frames) {
    if (this.live?.on) return this.live.go();
    this.play(false);
    this.seek((Math.round(this.time / this.dt) + frames) * this.dt);
  }

  /** Draws again, once, with the next picture of the screen. */
  touch() {
    if (this.waiting || !this.duration) return;
    this.waiting = true;
    requestAnimationFrame((now) => {
      this.waiting = false;
      const shown = this.live?.on ? this.live : this;
      shown.advance(now);
      shown.draw();
    });
  }

  advance(now) {
    if (!this.playing) return;
    if (this.last != null) this.time += ((now - this.last) / 1000) * Number(at("speed").value);
    this.last = now;
    if (this.time >= this.duration) {
      this.time = this.duration;
      this.play(false);
    } else {
      this.touch();
    }
  }

  /** Where each run is drawn: beside or above each other, whichever gives larger pictures. */
  layout() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const count = this.panels.length;
    let best = null;
    for (let columns = 1; columns <= count; columns++) {
      const deep = Math.ceil(count / columns);
      const [w, h] = [width / columns, height / deep];
      const size = Math.min(w, h * 1.1);
      if (!best || size > best.size) best = { columns, w, h, size };
    }
    at("panels").className = best.columns === 1 ? "stacked" : "";
    return this.panels.map((_, i) => ({
      left: (i % best.columns) * best.w,
      top: Math.floor(i / best.columns) * best.h,
      width: best.w,
      height: best.h,
    }));
  }

  /** Draws what does not depend on the time. */
  prepare() {
    if (!this.duration) return;
    const colours = ["horizon", "zenith", "floor", "tile", "mark"];
    this.colours = Object.fromEntries(colours.map((name) => [name, linear(rgb(`--${name}`))]));
    this.colours.dark = this.dark() ? 0.42 : 0.62;
    const panel = this.panels[this.focus];
    const { episode, scene, run } = panel;
    const several = this.panels.length > 1;
    for (const one of this.panels) {
      one.name.setAttribute("aria-pressed", String(!several || one === panel));
      one.name.title = several ? "Show its reward terms, actions and contacts" : "";
    }
    const { return: sums, terms, actions, contacts } = this.plots;
    for (const plot of [terms, actions, contacts]) plot.of.textContent = several ? this.short(run) : "";
    const small = this.canvas.clientWidth < 600;
    const tall = small ? 130 : 168;
    sums.prepare(
      this.duration,
      tall,
      lines(
        this.panels.map((one) => ({
          colour: one.colour,
          dt: one.episode.dt,
          values: one.episode.sums,
          first: 0,
        })),
      ),
    );
    terms.prepare(
      this.duration,
      tall,
      lines(
        episode.terms.map((_, i) => ({
          colour: `--c${i % 6}`,
          dt: episode.dt,
          values: Float32Array.from(
            { length: episode.steps },
            (_, t) => episode.parts.values[t * episode.terms.length + i],
          ),
          first: 1,
        })),
      ),
    );
    const [plus, minus] = [rgb("--c1"), rgb("--c0")].map((colour) => colour.map((x) => x * 255));
    const width = scene.actuators.length;
    actions.prepare(
      this.duration,
      Math.max(tall, width * 11 + AXIS),
      rows(
        scene.actuators,
        episode.dt,
        episode.steps,
        (t, i) => {
          const [low, high] = [run.low[i], run.high[i]];
          return ((episode.actions.values[t * width + i] - low) / (high - low)) * 2 - 1;
        },
        (value) => [...(value > 0 ? plus : minus), Math.min(1, Math.abs(value)) * 255],
      ),
    );
    const { touching } = episode;
    const most = Math.max(1e-9, ...chunks(episode.forces.values)[1]);
    const ink = rgb("--ink").map((x) => x * 255);
    contacts.prepare(
      this.duration,
      Math.max(tall, touching.length * 11 + AXIS),
      rows(
        touching.map((body) => scene.bodies[body]),
        episode.dt,
        episode.frames,
        (t, i) => episode.forces.values[t * touching.length + i] / most,
        (value) => [...ink, value > 1e-4 ? 70 + 185 * Math.sqrt(value) : 0],
      ),
    );
    this.touch();
  }

  draw() {
    const follow = at("follow").checked;
    this.renderer?.begin(this.colours);
    const rects = this.layout();
    this.panels.forEach((panel, i) => panel.draw(this.renderer, rects[i], this.camera, this.time, follow));
    const { episode } = this.panels[this.focus];
    const frame = episode.frame(this.time);
    const text = `${this.time.toFixed(2)} of ${this.duration.toFixed(2)} s`;
    at("slider").value = this.time;
    at("slider").setAttribute("aria-valuetext", `${text}, step ${frame}`);
    at("time").textContent = text;
    const { return: sums, terms, actions, contacts } = this.plots;
    sums.show(
      this.time,
      this.panels.map((one) => ({
        name: this.short(one.run),
        colour: css(one.colour),
        value: one.episode.sums[one.episode.frame(this.time)],
      })),
    );
    const step = Math.max(0, frame - 1);
    terms.show(
      this.time,
      episode.terms.map((name, i) => ({
        name,
        colour: css(`--c${i % 6}`),
        value: episode.parts.values[step * episode.terms.length + i] ?? 0,
      })),
    );
    actions.show(this.time, []);
    const force = episode.touching.reduce(
      (sum, _, i) => sum + episode.forces.values[frame * episode.touching.length + i],
      0,
    );
    contacts.show(this.time, [{ name: "sum", value: force, unit: " N" }]);
  }
}

const viewer = new Viewer();
viewer.begin().catch((error) => {
  at("notice").textContent = `The page can't be shown: ${error.message}`;
  at("notice").hidden = false;
  throw error;
});
