// A task in the browser: MuJoCo's own WebAssembly build, the policy, Gymnasium's rewards. The page
// compares all of it with the native simulation (compare.js).

const sumOfSquares = (values) => values.reduce((sum, x) => sum + x * x, 0);
const finite = ({ qpos, qvel }) => qpos.every(Number.isFinite) && qvel.every(Number.isFinite);
const x = ({ qpos }) => qpos[0];
/** The contact cost of both humanoids. */
const impact = (weight, { cfrc_ext }) => Math.min(10, weight * sumOfSquares(cfrc_ext));

/**
 * For each robot: the position whose speed is rewarded, what is healthy (none: an episode never ends), and
 * the terms of the reward, as in `crates/envs/src/tasks`. `speed` is in m/s, `alive` 1 or 0, `effort` the
 * action's sum of squares.
 */
const ROBOTS = {
  Ant: {
    place: ({ xpos }, { torso }) => xpos[3 * torso],
    healthy: (d) => finite(d) && d.qpos[2] >= 0.2 && d.qpos[2] <= 1,
    terms: ({ speed, alive, effort }, { cfrc_ext }, version) => ({
      forward: speed,
      survive: alive,
      ctrl: -0.5 * effort,
      ...(version > 4 && { contact: -5e-4 * sumOfSquares(cfrc_ext.map((x) => Math.max(-1, Math.min(1, x)))) }),
    }),
  },
  HalfCheetah: { place: x, terms: ({ speed, effort }) => ({ forward: speed, ctrl: -0.1 * effort }) },
  Hopper: {
    place: x,
    healthy: ({ qpos, qvel }) =>
      [...qpos.subarray(2), ...qvel].every((x) => Math.abs(x) < 100) &&
      qpos[1] > 0.7 &&
      Math.abs(qpos[2]) < 0.2,
    terms: ({ speed, alive, effort }) => ({ forward: speed, survive: alive, ctrl: -1e-3 * effort }),
  },
  Humanoid: {
    place: ({ xipos }, { masses }) => {
      const total = masses.reduce((sum, mass) => sum + mass);
      return masses.reduce((sum, mass, body) => sum + mass * xipos[3 * body], 0) / total;
    },
    healthy: ({ qpos }) => qpos[2] > 1 && qpos[2] < 2,
    terms: ({ speed, alive, effort }, d, version) => ({
      forward: 1.25 * speed,
      survive: 5 * alive,
      ctrl: -0.1 * effort,
      ...(version > 4 && { contact: -impact(5e-7, d) }),
    }),
  },
  HumanoidStandup: {
    place: () => 0,
    terms: ({ effort }, d, _, timestep) => ({
      linup: d.qpos[2] / timestep,
      quadctrl: -0.1 * effort,
      impact: -impact(5e-7, d),
      constant: 1,
    }),
  },
  Swimmer: { place: x, terms: ({ speed, effort }) => ({ forward: speed, ctrl: -1e-4 * effort }) },
  Walker2d: {
    place: x,
    healthy: ({ qpos }) => qpos[1] > 0.8 && qpos[1] < 2 && Math.abs(qpos[2]) < 1,
    terms: ({ speed, alive, effort }) => ({ forward: speed, survive: alive, ctrl: -1e-3 * effort }),
  },
};

/** MuJoCo, from its loader (an ES module) and its WebAssembly file, both compressed. */
async function loadMujoco({ loader, wasm }) {
  const [code, wasmBinary] = await Promise.all([inflate(loader), inflate(wasm)]);
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  try {
    // Without `locateFile` the loader makes an address relative to its own, which a blob does not have.
    return await (await import(address)).default({ wasmBinary, locateFile: (name) => name });
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** A policy in its runtime, `crates/policy-c` as WebAssembly. */
class Policy {
  static async load(runtime, file) {
    const [code, bytes] = await Promise.all([inflate(runtime), inflate(file)]);
    return new Policy((await WebAssembly.instantiate(code, {})).instance.exports, bytes);
  }

  constructor(runtime, bytes) {
    this.runtime = runtime;
    const file = runtime.smfp_allocate(bytes.length);
    new Uint8Array(runtime.memory.buffer, file, bytes.length).set(bytes);
    const words = runtime.smfp_allocate(20);
    const code = runtime.smfp_load(file, bytes.length, words);
    runtime.smfp_deallocate(file, bytes.length);
    if (code) throw new Error(`the policy can't be loaded (code ${code})`);
    this.policy = this.view(words, 1, Uint32Array)[0];
    runtime.smfp_sizes(this.policy, words);
    this.sizes = [...this.view(words, 4, Uint32Array)]; // obs, z, xi, actions
    this.places = this.sizes.map((size) => runtime.smfp_allocate(4 * size));
  }

  /** Numbers in its memory, which moves when it grows. */
  view(address, length, Kind = Float32Array) {
    return new Kind(this.runtime.memory.buffer, address, length);
  }

  /** Actions for an observation. `noisy` says which of z and xi are drawn; the others are 0. */
  act(observation, noisy) {
    const [obs, z, xi, actions] = this.places;
    this.view(obs, this.sizes[0]).set(observation);
    const draw = (place, size, drawn) => {
      if (drawn) this.view(place, size).forEach((_, i, all) => (all[i] = normal()));
      return drawn && size ? place : 0;
    };
    const noise = [draw(z, this.sizes[1], noisy.z), draw(xi, this.sizes[2], noisy.xi)];
    const code = this.runtime.smfp_act(this.policy, obs, ...noise, actions);
    if (code) throw new Error(`the policy can't act (code ${code})`);
    return this.view(actions, this.sizes[3]).slice();
  }
}

/** A standard-normal number, after Box and Muller. */
const normal = () =>
  Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

/** An episode of a task that goes on step by step. */
class Task {
  /** `live` is what the page has of a run: model, observation, starts and so on. */
  constructor(mujoco, live, dt) {
    Object.assign(this, { mujoco, live, dt });
    this.robot = ROBOTS[live.robot];
    this.model = mujoco.MjModel.from_xml_string(live.model);
    this.data = new mujoco.MjData(this.model);
    this.timestep = this.model.opt.timestep;
    this.masses = [...this.model.body_mass];
    const named = mujoco.mj_name2id(this.model, mujoco.mjtObj.mjOBJ_BODY.value, "torso");
    this.torso = live.version > 4 ? 1 : named;
    this.forces = null; // called before each MuJoCo step, to push
  }

  free() {
    this.data.delete();
    this.model.delete();
  }

  /** Starts an episode in one of the recorded states: positions and velocities. */
  reset(start) {
    const { mujoco, model, data } = this;
    mujoco.mj_resetData(model, data);
    data.qpos.set(start.subarray(0, model.nq));
    data.qvel.set(start.subarray(model.nq));
    mujoco.mj_forward(model, data);
    this.mark = this.robot.place(data, this);
    this.steps = this.total = 0;
    this.ended = false;
    this.terms = {};
  }

  /** The observation: the parts that Rust names, each the end of an array of MuJoCo's. */
  observe() {
    const parts = this.live.observation.map(([name, length]) => {
      const [, field, low, high] = name.match(/^(?:clip\()?(\w+)(?:, (\S+), (\S+)\))?$/);
      const values = this.data[field];
      const part = values.subarray(values.length - length);
      return low === undefined ? part : part.map((x) => Math.max(low, Math.min(high, x)));
    });
    return parts.flatMap((part) => [...part]);
  }

  step(action) {
    const { mujoco, model, data, robot, live } = this;
    data.ctrl.set(action);
    for (let i = 0; i < live.skip; i++) {
      this.forces?.();
      mujoco.mj_step(model, data);
    }
    mujoco.mj_rnePostConstraint(model, data);
    const now = robot.place(data, this);
    const healthy = robot.healthy?.(data) ?? true;
    const facts = {
      speed: (now - this.mark) / this.dt,
      alive: live.version > 4 ? Number(healthy) : 1,
      effort: sumOfSquares(action),
    };
    this.terms = robot.terms(facts, data, live.version, this.timestep);
    this.reward = Object.values(this.terms).reduce((sum, term) => sum + term, 0);
    this.mark = now;
    this.steps += 1;
    this.total += this.reward;
    this.ended = !healthy;
  }
}
