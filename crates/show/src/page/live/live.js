// Live mode: the policy acts and MuJoCo simulates in this page, and the visitor interferes.

/** Seconds that a shove lasts, and the speed that it would give the whole robot, in m/s. */
const SHOVE = { time: 0.1, speed: 1.5 };
/** A pull is a damped spring: stiffness and damping for each kilogram of the robot. */
const SPRING = { stiffness: 60, damping: 8 };
/** Seconds between a fall and the next start. */
const PAUSE = 1.2;

class Live {
  constructor(viewer) {
    this.viewer = viewer;
    this.on = false;
    this.runs = data.runs.filter((run) => run.live);
    this.simulators = new Map(); // of each run that was looked at
    at("live-run").replaceChildren(...this.runs.map((run, i) => new Option(viewer.short(run), i)));
    at("live-run").value = this.runs.length - 1;
    this.pull = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.pull.id = "pull";
    this.line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    this.pull.append(this.line);
    at("stage").append(this.pull);
    this.controls();
  }

  controls() {
    const mode = (id, text) => Object.assign(element("button", "", text), { id, type: "button" });
    const modes = element("span", "modes", mode("mode-replays", "Replays"), mode("mode-live", "Live"));
    modes.setAttribute("role", "group");
    at("controls").prepend(modes);
    this.press(false);
    at("mode-live").addEventListener("click", () => this.enter());
    at("mode-replays").addEventListener("click", () => this.leave());
    at("live-run").addEventListener("change", () => this.choose());
    at("again").addEventListener("click", () => this.again());
    at("shove-left").addEventListener("click", () => this.shove(-1));
    at("shove-right").addEventListener("click", () => this.shove(1));
    for (const name of ["gravity", "joint", "damping"]) at(name).addEventListener("input", () => this.change(name));
    at("restore").addEventListener("click", () => this.restore());
    const { canvas, camera } = this.viewer;
    camera.taken = (event) => this.grab(event);
    canvas.addEventListener("pointermove", (event) => event.pointerId === this.held?.pointer && this.move(event));
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (event) => event.pointerId === this.held?.pointer && this.drop());
  }

  /** Loads MuJoCo, once, and begins. */
  async enter() {
    if (this.on || this.loading) return;
    this.loading = true;
    at("checked").textContent = "MuJoCo is being loaded …";
    at("live").hidden = false;
    try {
      this.mujoco ??= await loadMujoco(data.live);
      await this.choose();
    } catch (error) {
      at("live").hidden = true;
      this.viewer.warn(`Live mode does not work in this browser: ${error.message}`);
      return;
    } finally {
      this.loading = false;
    }
    this.show(true);
    this.viewer.play(true);
  }

  leave() {
    this.drop();
    this.show(false);
    at("live").hidden = true;
    this.viewer.play(false);
    this.viewer.prepare();
  }

  /** Shows which of the two buttons is pressed. */
  press(on) {
    at("mode-live").setAttribute("aria-pressed", String(on));
    at("mode-replays").setAttribute("aria-pressed", String(!on));
  }

  show(on) {
    this.on = on;
    document.body.classList.toggle("living", on);
    this.press(on);
    const panels = on ? [this.panel] : this.viewer.panels;
    at("panels").replaceChildren(...panels.map(({ node }) => node));
  }

  /** Simulates the chosen run. */
  async choose() {
    const run = this.runs[Number(at("live-run").value)];
    // Another may be chosen while this one loads.
    const turn = (this.turn = (this.turn ?? 0) + 1);
    if (!this.simulators.has(run)) {
      const { live } = run;
      const policy = await Policy.load(data.live.runtime, live.policy);
      const starts = await doubles(live.starts);
      const task = new Task(this.mujoco, live, run.dt);
      const width = task.model.nq + task.model.nv;
      const states = Array.from({ length: starts.length / width }, (_, i) =>
        starts.subarray(i * width, (i + 1) * width),
      );
      task.forces = () => this.push(task);
      const damping = [...task.model.dof_damping];
      this.simulators.set(run, { task, policy, states, damping, gravity: [...task.model.opt.gravity] });
    }
    const episode = await Episode.read(run, 0); // from which the camera learns how large the robot is
    if (turn !== this.turn) return;
    this.run = run;
    Object.assign(this, this.simulators.get(run));
    this.panel = new Panel(run, data.runs.indexOf(run), () => {});
    this.panel.load(episode, this.viewer.parts ?? []);
    this.pose = this.panel.pose;
    this.mass = this.task.masses.reduce((sum, mass) => sum + mass);
    at("joint").replaceChildren(new Option("all joints", -1), ...this.joints());
    this.restore();
    this.again();
    if (this.on) this.show(true);
    this.check(run);
  }

  /** Choices of the joints that have damping: the first of their velocities and how many there are. */
  joints() {
    const { mujoco } = this;
    const { model } = this.task;
    const kind = mujoco.mjtObj.mjOBJ_JOINT.value;
    const firsts = [...model.jnt_dofadr, model.nv];
    return Array.from({ length: model.njnt }, (_, i) => {
      const count = firsts[i + 1] - firsts[i];
      const name = mujoco.mj_id2name(model, kind, i) || `joint ${i}`;
      return this.damping[firsts[i]] > 0 && new Option(name, `${firsts[i]},${count}`);
    }).filter(Boolean);
  }

  /** Compares with the native simulation, once for each run, and says what was found. */
  async check(run) {
    const known = this.simulators.get(run);
    const tell = (text) => {
      if (this.run === run) at("checked").textContent = text;
    };
    const versions = `MuJoCo ${data.live.version} simulates here, ${data.mujoco} where the policy was evaluated.`;
    tell(`${versions} They are being compared …`);
    const mine = new Policy(this.policy.runtime, await inflate(run.live.policy));
    known.compared ??= compare(this.mujoco, run.live, run.dt, mine, known.states);
    const { positions, returns, steps } = await known.compared;
    const far = positions
      .filter(([step]) => [1, 10, 100, 1000].includes(step))
      .map(([step, gap]) => `${gap ? gap.toExponential(0) : 0} in ${step.toLocaleString("en")}`);
    tell(
      `${versions} From the same states and without noise, coordinates (m or rad) differ by at most ` +
        `${far.join(", ")} steps, and the rewards of ${steps.toLocaleString("en")} steps add up to ` +
        `${digits(returns[0])} here and ${digits(returns[1])} there: small differences grow, as in any ` +
        `chaotic motion. Returns of live mode are not results. (MuJoCo: Google DeepMind, Apache License 2.0.)`,
    );
  }

  /** Starts an episode in a state drawn from the recorded ones. */
  again() {
    this.drop();
    this.shoved = null;
    this.waited = 0;
    this.rest = 0;
    this.task.reset(this.states[Math.floor(Math.random() * this.states.length)]);
    this.track = null;
    this.viewer.touch();
  }

  /** Pushes the robot to the left or right as it is seen. */
  shove(side) {
    if (!this.on) return;
    const angle = this.viewer.camera.azimuth;
    // To the right of the camera, which looks along the azimuth inwards.
    const direction = [-Math.sin(angle) * side, Math.cos(angle) * side, 0];
    this.shoved = { direction, until: this.task.data.time + SHOVE.time };
    if (!this.viewer.playing) this.viewer.play(true);
  }

  /** Sets the forces on the bodies, before a step of MuJoCo's. */
  push({ data: d, timestep }) {
    d.xfrc_applied.fill(0);
    if (this.shoved) {
      if (d.time >= this.shoved.until) this.shoved = null;
      else {
        const force = (this.mass * SHOVE.speed) / SHOVE.time;
        this.shoved.direction.forEach((x, i) => (d.xfrc_applied[6 * this.root + i] = x * force));
      }
    }
    if (!this.held) return;
    const { body, local, target } = this.held;
    const place = placed(d.xquat.subarray(4 * body), d.xpos.subarray(3 * body));
    const point = through(place, local);
    const speed = this.held.last ? sub(point, this.held.last).map((x) => x / timestep) : [0, 0, 0];
    this.held.last = point;
    const { stiffness, damping } = SPRING;
    const force = sub(target, point).map((x, i) => this.mass * (stiffness * x - damping * speed[i]));
    const arm = sub(point, d.xipos.subarray(3 * body));
    d.xfrc_applied.set([...force, ...cross(arm, force)], 6 * body);
  }

  /** The root of the robot's bodies, which a shove moves. */
  get root() {
    return this.panel.robot;
  }

  /** Changes the model; the policy does not know. */
  change(name) {
    const { model } = this.task;
    const factor = Number(at("gravity").value);
    model.opt.gravity.set(this.gravity.map((x) => x * factor));
    at("gravity").nextElementSibling.textContent = `×${factor}`;
    if (name === "joint") at("damping").value = 0;
    const times = 10 ** Number(at("damping").value);
    const [from, count] = at("joint").value.split(",").map(Number);
    const chosen = (i) => from < 0 || (i >= from && i < from + count);
    model.dof_damping.set(this.damping.map((x, i) => (chosen(i) ? x * times : x)));
    at("damping").nextElementSibling.textContent = `×${digits(times)}`;
    this.viewer.touch();
  }

  restore() {
    at("gravity").value = 1;
    at("damping").value = 0;
    at("joint").value = -1;
    this.change("joint");
  }

  step() {
    const { task } = this;
    task.step(this.policy.act(task.observe(), this.run.live.noise));
  }

  /** Simulates the time since the last picture, as far as the machine is fast enough. */
  advance(now) {
    const { viewer, task } = this;
    if (!viewer.playing) return;
    const passed = viewer.last == null ? 0 : Math.min(0.1, (now - viewer.last) / 1000);
    viewer.last = now;
    this.rest += passed * Number(at("speed").value);
    const until = performance.now() + 40;
    while (this.rest >= this.run.dt) {
      this.rest -= this.run.dt;
      if (!task.ended) this.step();
      else if ((this.waited += this.run.dt) > PAUSE) this.again();
      if (performance.now() > until) this.rest = 0;
    }
    viewer.touch();
  }

  /** A single step, for the button and in tests. */
  go() {
    this.viewer.play(false);
    this.step();
    this.viewer.touch();
  }

  draw() {
    const { viewer, task, panel } = this;
    const { data: d } = task;
    this.pose.positions.set(d.xpos);
    this.pose.orientations.set(d.xquat);
    this.aim(at("follow").checked);
    const { clientWidth: width, clientHeight: height } = viewer.canvas;
    const rect = { left: 0, top: 0, width, height };
    viewer.renderer?.begin(viewer.colours);
    this.view = viewer.camera.place(this.track, panel.reach, width / height);
    viewer.renderer?.draw(rect, panel.parts, this.pose, this.view, panel.reach);
    Object.assign(panel.node.style, { left: 0, top: 0, width: `${width}px`, height: `${height}px` });
    panel.sum.textContent = digits(task.total);
    panel.step.textContent = `live, not a result · step ${task.steps.toLocaleString("en")}`;
    panel.end.hidden = !task.ended;
    panel.end.textContent = "a terminal state: the episode ends here";
    this.drawPull(rect);
  }

  /** Moves what the camera looks at towards the robot: smoothly, so that the picture is calm. */
  aim(follow) {
    const now = performance.now();
    const { xpos } = this.task.data;
    const goal = this.panel.offset.map((x, i) => x + xpos[3 * this.root + i]);
    this.track ??= goal;
    if (follow) {
      // Height follows less, as in replays.
      const share = 1 - Math.exp(((this.aimed ?? now) - now) / 150);
      this.track = this.track.map((x, i) => x + (i === 2 ? 0.3 : 1) * share * (goal[i] - x));
    }
    this.aimed = now;
  }

  drawPull(rect) {
    this.line.setAttribute("visibility", this.held ? "visible" : "hidden");
    if (!this.held) return;
    const { data: d } = this.task;
    const { body, local, pixel } = this.held;
    const place = placed(d.xquat.subarray(4 * body), d.xpos.subarray(3 * body));
    const from = this.project(through(place, local), rect);
    [from[0], from[1], pixel[0], pixel[1]].forEach((x, i) =>
      this.line.setAttribute(["x1", "y1", "x2", "y2"][i], x),
    );
  }

  /** A point of the world in pixels of the stage. */
  project(point, { width, height }) {
    const { eye, target, tangent } = this.view;
    const { right, top, back } = look(eye, target, [0, 0, 1]);
    const away = sub(point, eye);
    const depth = -dot(away, back);
    const scale = height / (2 * tangent * depth);
    return [width / 2 + dot(away, right) * scale, height / 2 - dot(away, top) * scale];
  }

  /** The ray from the camera through a pointer: {eye, direction}, one metre deep; and the pixel. */
  ray(event) {
    const box = this.viewer.canvas.getBoundingClientRect();
    const pixel = [event.clientX - box.left, event.clientY - box.top];
    const { eye, target, tangent } = this.view;
    const { right, top, back } = look(eye, target, [0, 0, 1]);
    const scale = (2 * tangent) / box.height;
    const [x, y] = [(pixel[0] - box.width / 2) * scale, (box.height / 2 - pixel[1]) * scale];
    const direction = [0, 1, 2].map((i) => right[i] * x + top[i] * y - back[i]);
    return { eye, direction, back, pixel };
  }

  /** Takes hold of the body under the pointer, if there is one. */
  grab(event) {
    if (!this.on || this.held || event.button > 0 || event.shiftKey) return false;
    const ray = this.ray(event);
    const slack = this.panel.reach * (event.pointerType === "touch" ? 0.06 : 0.02);
    let nearest = null;
    for (const part of this.panel.parts) {
      if (!part.body || part.infinite) continue;
      const { xpos, xquat } = this.task.data;
      const place = placed(xquat.subarray(4 * part.body), xpos.subarray(3 * part.body));
      const depth = hit(times(place, part.local), part.bounds, slack, ray);
      if (depth !== null && !(nearest?.depth < depth)) nearest = { body: part.body, depth, place };
    }
    if (!nearest) return false;
    const { body, depth, place } = nearest;
    const point = ray.eye.map((x, i) => x + depth * ray.direction[i]);
    const [px, py, pz] = sub(point, [place[12], place[13], place[14]]);
    const local = [0, 1, 2].map((k) => place[4 * k] * px + place[4 * k + 1] * py + place[4 * k + 2] * pz);
    this.held = { pointer: event.pointerId, body, depth, local, target: point, pixel: ray.pixel };
    this.viewer.canvas.setPointerCapture(event.pointerId);
    if (!this.viewer.playing) this.viewer.play(true);
    return true;
  }

  move(event) {
    const { eye, direction, pixel } = this.ray(event);
    // In the plane parallel to the picture in which it was taken.
    this.held.target = eye.map((x, i) => x + this.held.depth * direction[i]);
    this.held.pixel = pixel;
  }

  drop() {
    this.held = null;
  }

  /** Whether a key is one of live mode's. */
  key(event) {
    const keys = {
      ArrowLeft: () => this.shove(-1),
      ArrowRight: () => this.shove(1),
      n: () => this.again(),
      " ": () => this.viewer.play(!this.viewer.playing),
    };
    const action = this.on && keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) {
      event.preventDefault();
      action();
    }
    return Boolean(action);
  }
}

/** How far along a ray a box, placed by a matrix and wider by `slack`, is hit; nothing if it is not. */
function hit(place, { low, high }, slack, { eye, direction }) {
  const from = sub(eye, [place[12], place[13], place[14]]);
  let [near, far] = [0, Infinity];
  for (let k = 0; k < 3; k++) {
    const axis = [place[4 * k], place[4 * k + 1], place[4 * k + 2]];
    const [start, speed] = [dot(from, axis), dot(direction, axis)];
    const edges = [low[k] - slack, high[k] + slack].map((edge) => (edge - start) / speed);
    near = Math.max(near, Math.min(...edges));
    far = Math.min(far, Math.max(...edges));
  }
  return near <= far ? near : null;
}

viewer.live = new Live(viewer);
