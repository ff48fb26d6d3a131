// The page's data: what was recorded, and reading it. `pack.rs` of the crate writes the tracks.

const data = JSON.parse(document.getElementById("data").textContent);

/** The bytes that a text stands for: zlib's format, in base64. */
async function inflate(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The tracks of a pack by name: {width, length, values}, row by row. */
async function unpack(pack) {
  const bytes = await inflate(pack.data);
  const tracks = {};
  let at = 0;
  for (const { name, width, length, bytes: size, low, step } of pack.tracks) {
    const values = new Float32Array(width * length);
    const planes = size || 4;
    const whole = new DataView(new ArrayBuffer(4));
    const mask = 2 ** (8 * planes) - 1;
    for (let channel = 0; channel < width; channel++, at += planes * length) {
      let previous = 0;
      for (let row = 0; row < length; row++) {
        let code = 0;
        for (let plane = 0; plane < planes; plane++) code = code * 256 + bytes[at + plane * length + row];
        if (size === 0) {
          whole.setUint32(0, code);
          values[row * width + channel] = whole.getFloat32(0);
        } else {
          // The lowest bit is the sign of the difference to the previous row.
          const difference = code & 1 ? -(code + 1) / 2 : code / 2;
          previous = (previous + difference) & mask;
          values[row * width + channel] = low[channel] + step[channel] * previous;
        }
      }
    }
    tracks[name] = { width, length, values };
  }
  return tracks;
}

/** An episode of a run, ready to be drawn. */
class Episode {
  static async read(run, place) {
    const record = run.episodes[place];
    const { roots } = data.scenes[run.scene];
    return new Episode(record, run, roots, await unpack(record));
  }

  constructor(record, run, roots, tracks) {
    Object.assign(this, record);
    this.dt = run.dt;
    this.bodies = roots.length;
    this.frames = record.steps + 1;
    this.duration = record.steps * run.dt;
    this.positions = tracks.positions.values;
    this.orientations = tracks.orientations.values;
    this.forces = tracks.forces;
    this.actions = tracks.actions;
    this.rewards = tracks.rewards.values;
    this.parts = tracks.terms;
    for (let frame = 0; frame < this.frames; frame++) {
      const first = frame * this.bodies * 3;
      // Bodies are stored relative to the root of their tree, which comes before them.
      for (let body = this.bodies - 1; body >= 0; body--) {
        if (roots[body] === body) continue;
        for (let i = 0; i < 3; i++)
          this.positions[first + body * 3 + i] += this.positions[first + roots[body] * 3 + i];
      }
    }
    this.sums = new Float64Array(this.frames);
    for (let t = 0; t < record.steps; t++) this.sums[t + 1] = this.sums[t] + this.rewards[t];
  }

  /** The last frame at or before a time. */
  frame(time) {
    return Math.max(0, Math.min(this.frames - 1, Math.floor(time / this.dt + 1e-6)));
  }

  /** Poses of all bodies at a time, between frames on a straight line. */
  pose(time, pose) {
    const a = this.frame(time);
    const b = Math.min(a + 1, this.frames - 1);
    const w = Math.max(0, Math.min(1, time / this.dt - a));
    const mix = (from, to, width) => {
      for (let i = 0; i < width; i++) {
        to[i] = from[a * width + i] * (1 - w) + from[b * width + i] * w;
      }
    };
    mix(this.positions, pose.positions, this.bodies * 3);
    mix(this.orientations, pose.orientations, this.bodies * 4);
    for (let body = 0; body < this.bodies; body++) {
      const q = pose.orientations.subarray(body * 4, body * 4 + 4);
      const size = Math.hypot(q[0], q[1], q[2], q[3]) || 1;
      for (let i = 0; i < 4; i++) q[i] /= size;
    }
  }
}
