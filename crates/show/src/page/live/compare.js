// The browser's simulation beside the native one: both begin in the same state and act with the same
// policy without noise, so that they differ by rounding and by MuJoCo's version alone.

/** Numbers of `f64` in compressed bytes. */
async function doubles(text) {
  return new Float64Array((await inflate(text)).buffer);
}

/**
 * Repeats the recorded steps of a run, some milliseconds at a time. Returns {positions: [[step, largest
 * difference of a coordinate so far]], reward: that of the first step, returns: [here, native], steps}.
 */
async function compare(mujoco, live, dt, policy, starts) {
  const { trace } = live;
  const [rewards, positions] = await Promise.all([doubles(trace.rewards), doubles(trace.positions)]);
  const task = new Task(mujoco, live, dt);
  const { nq } = task.model;
  const found = { positions: [], reward: NaN, returns: [0, 0], steps: rewards.length };
  let [far, episode, until] = [0, 0, performance.now() + 8];
  task.reset(starts[0]);
  for (let t = 0; t < rewards.length; t++) {
    // An episode that ended there begins again in the next state here too.
    if (trace.begins.includes(t) && t) task.reset(starts[++episode % starts.length]);
    task.step(policy.act(task.observe(), {}));
    found.returns[0] += task.reward;
    found.returns[1] += rewards[t];
    if (t === 0) found.reward = Math.abs(task.reward - rewards[0]);
    const kept = trace.at.indexOf(t + 1);
    if (kept >= 0) {
      const native = positions.subarray(kept * nq, (kept + 1) * nq);
      far = task.data.qpos.reduce((most, x, i) => Math.max(most, Math.abs(x - native[i])), far);
      found.positions.push([t + 1, far]);
    }
    if (performance.now() < until) continue;
    await new Promise((resume) => setTimeout(resume, 8));
    until = performance.now() + 8;
  }
  task.free();
  return found;
}
