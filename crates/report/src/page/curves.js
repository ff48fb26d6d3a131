// The cards with charts: learning curves of a task, aggregates over tasks.

// --- Learning curves ---

/** A moving average: each value is averaged with those before it. */
const smooth = (points) =>
  state.smooth === 1
    ? points
    : points.map((p, i) => {
        const window = points.slice(Math.max(0, i + 1 - state.smooth), i + 1);
        return { x: p.x, y: window.reduce((sum, q) => sum + q.y, 0) / window.length, n: p.n };
      });

function xOf(cells) {
  if (state.x === "steps")
    return {
      of: (p) => p.step,
      name: "environment steps",
      format: short,
      head: (x) => `step ${comma.format(x)}`,
    };
  const longest = Math.max(0, ...cells.flatMap((cell) => cell.curve.map((p) => p.wall_s ?? 0)));
  const [unit, name] = units.findLast(([unit]) => longest >= 3 * unit) ?? units[0];
  return {
    of: (p) => (p.wall_s == null ? null : p.wall_s / unit),
    name: `wall-clock, ${name}`,
    format: short,
    head: (x) => `${show(x)} ${name}`,
  };
}

function series(cell, x) {
  const points = (all, y) =>
    all
      .map((p) => ({
        x: x.of(p),
        y: y(p),
        low: p.interval?.low,
        high: p.interval?.high,
        n: p.runs ? plural(p.runs, "seed") : null,
        runs: p.runs,
      }))
      .filter((p) => p.x != null);
  const runs = cell.runs.map((i) => data.runs[i]);
  const mean = points(cell.curve, (p) => p.value);
  const whole = mean.findIndex((p) => p.runs !== mean[0].runs);
  if (cell.published) mean.forEach((p) => (p.n = "published mean"));
  const ends = runs
    .filter((run) => !run.finished && run.points.length)
    .map((run) => ({ run, p: run.points.at(-1) }));
  return {
    name: cell.algorithm,
    place: place(cell.algorithm),
    points: smooth(mean),
    published: cell.published,
    whole: cell.published ? 0 : whole < 0 ? mean.length : whole,
    seeds:
      state.seeds && runs.length > 1 ? runs.map((run) => smooth(points(run.points, (p) => p.score))) : [],
    ends: ends
      .map(({ run, p }) => ({
        x: x.of(p),
        y: p.score,
        text: `seed ${run.seed}: ${run.failed ? "failed" : "stopped"} at step ${comma.format(run.reached)}`,
      }))
      .filter((p) => p.x != null),
  };
}

function curveCard(task) {
  const cells = cellsOf(task);
  const x = xOf(cells);
  const lines = cells.map((cell) => series(cell, x));
  // A remark on several algorithms is shown once.
  const said = new Map();
  for (const cell of cells)
    for (const remark of cell.remarks) said.set(remark, [...(said.get(remark) ?? []), cell.algorithm]);
  const remarks = [...said].map(([remark, names]) =>
    el("li", {}, el("b", {}, names.join(", ")), ` – ${remark}`),
  );
  if (task.remark) remarks.unshift(el("li", {}, task.remark));
  const untimed = lines.filter((line) => !line.points.length).map((line) => line.name);
  if (untimed.length)
    remarks.push(
      el(
        "li",
        {},
        `no curve for ${untimed.join(", ")}: ${state.x === "wall" ? "no times or " : ""}no evaluations`,
      ),
    );
  return el(
    "div",
    { class: "card" },
    el("h3", {}, task.name),
    el("p", { class: "quiet" }, `compared at step ${comma.format(task.horizon)}`),
    lineChart({
      label: `Learning curves on ${task.name}`,
      series: lines,
      xName: x.name,
      yName: "return",
      xFormat: x.format,
      tipHead: x.head,
    }),
    remarks.length ? el("ul", { class: "remarks" }, remarks) : null,
  );
}

// --- Terms of rewards ---

/** A task's terms: a chart for each, with a line for each algorithm that has it. */
function termCards(task) {
  const cells = cellsOf(task);
  const names = [...new Set(cells.flatMap((cell) => cell.terms.map((term) => term.name)))];
  if (!names.length) return [];
  const line = (cell, term) => ({
    name: cell.algorithm,
    place: place(cell.algorithm),
    points: term.points.map((p) => ({ x: p.step, y: p.value, n: plural(p.runs, "seed") })),
    whole: term.points.length,
    seeds: [],
    ends: [],
  });
  const chart = (name) =>
    el(
      "div",
      { class: "card" },
      el("h4", {}, name),
      lineChart({
        label: `Reward term ${name} on ${task.name}`,
        series: cells.flatMap((cell) =>
          cell.terms.filter((term) => term.name === name).map((term) => line(cell, term)),
        ),
        xName: "environment steps",
        yName: "mean per step",
        tipHead: (x) => `step ${comma.format(x)}`,
      }),
    );
  return [el("h3", {}, task.name), el("div", { class: "grid" }, names.map(chart))];
}

// --- Over tasks ---

function aggregateCards() {
  const all = data.aggregate;
  if (!all) return [];
  const members = all.members.filter((member) => state.algorithms.has(member.algorithm));
  const plain = (member, points) => ({
    name: member.algorithm,
    place: place(member.algorithm),
    points,
    whole: points.length,
    seeds: [],
    ends: [],
  });
  const rows = members
    .map((member) => ({
      name: member.algorithm,
      place: place(member.algorithm),
      value: member.iqm.value,
      ...member.iqm.interval,
    }))
    .sort((a, b) => b.value - a.value);
  const curves = members.map((member) =>
    plain(
      member,
      member.curve.map((p) => ({
        x: p.step,
        y: p.value,
        low: p.interval?.low,
        high: p.interval?.high,
        n: plural(p.runs, "run"),
      })),
    ),
  );
  const profiles = members.map((member) =>
    plain(
      member,
      all.thresholds.map((tau, i) => ({ x: tau, y: member.above[i], ...member.above_intervals?.[i] })),
    ),
  );
  const card = (title, text, chart, wide) =>
    el(
      "div",
      { class: wide ? "card wide" : "card" },
      el("h3", {}, title),
      el("p", { class: "quiet" }, text),
      chart,
    );
  if (!rows.length) return [];
  return [
    card(
      "Interquartile mean",
      "of the normalised scores of all runs and tasks",
      dotChart({ label: "Interquartile means", rows, xName: "normalised score" }),
    ),
    card(
      "Interquartile mean by step",
      "of the runs that reach the step of comparison",
      lineChart({
        label: "Interquartile mean by step",
        series: curves,
        xName: "environment steps",
        yName: "normalised IQM",
        tipHead: (x) => `step ${comma.format(x)}`,
      }),
    ),
    card(
      "Performance profile",
      "the share of runs whose normalised score is above τ",
      lineChart({
        label: "Performance profile",
        series: profiles,
        xName: "normalised score τ",
        yName: "share above τ",
        tipHead: (x) => `τ = ${show(x)}`,
      }),
    ),
    members.length > 1
      ? card(
          "Probability of improvement",
          "that a run of the row beats one of the column on the same task",
          matrix(members.map((member) => member.algorithm)),
          true,
        )
      : null,
  ].filter(Boolean);
}

function matrix(names) {
  const cell = (x, y) => {
    const pair = data.aggregate.improvements.find((pair) => pair.x === x && pair.y === y);
    if (!pair) return el("td", {}, "");
    const { value, interval } = pair.probability;
    const tint = `color-mix(in srgb, ${colour(value >= 0.5 ? 0 : 1)} ${Math.round(Math.abs(value - 0.5) * 90)}%, transparent)`;
    return el(
      "td",
      { style: `background:${tint}` },
      value.toFixed(2),
      interval ? el("small", {}, `${interval.low.toFixed(2)} – ${interval.high.toFixed(2)}`) : null,
    );
  };
  return scroll(
    "Probabilities of improvement",
    el(
      "table",
      { class: "matrix" },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", {}, ""),
          names.map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      el(
        "tbody",
        {},
        names.map((x) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, x),
            names.map((y) => cell(x, y)),
          ),
        ),
      ),
    ),
  );
}
