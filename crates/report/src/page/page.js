// The page: what is chosen, and what of the study is shown for it.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const place = (algorithm) => data.algorithms.indexOf(algorithm);
const plural = (n, word) => `${comma.format(n)} ${word}${n === 1 ? "" : "s"}`;
const state = {
  algorithms: new Set(data.algorithms),
  tasks: new Set(data.tasks.map((task) => task.name)),
  x: "steps",
  smooth: 1,
  seeds: false,
};
const cellsOf = (task) => task.cells.filter((cell) => state.algorithms.has(cell.algorithm));
const tasksShown = () => data.tasks.filter((task) => state.tasks.has(task.name));
const runName = (run) => (run.origin === "published-mean" ? "published mean" : `seed ${run.seed}`);

// --- Colours, and light or dark ---

document.head.append(el("style", {}, `:root{${data.palette.light
  .map((light, i) => `--c${i}:light-dark(${light},${data.palette.dark[i]})`).join(";")}}`));
at("theme").addEventListener("click", () => {
  const root = document.documentElement.style;
  const dark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = dark ? "light" : "dark";
});

// --- Choices ---

function chips(host, names, chosen, mark) {
  for (const name of names) {
    const button = el("button", { type: "button", "aria-pressed": "true" }, mark(name), name);
    button.addEventListener("click", (event) => {
      // With Alt, this one alone; again, all.
      if (event.altKey) {
        const alone = chosen.size === 1 && chosen.has(name);
        chosen.clear();
        (alone ? names : [name]).forEach((other) => chosen.add(other));
      } else if (!chosen.delete(name)) chosen.add(name);
      [...host.children].forEach((chip, i) => chip.setAttribute("aria-pressed", chosen.has(names[i])));
      render();
    });
    button.title = "Shown or not; with Alt, this one alone";
    host.append(button);
  }
}
chips(at("algorithms"), data.algorithms, state.algorithms, (name) => swatch(place(name)));
chips(at("tasks"), data.tasks.map((task) => task.name), state.tasks, () => null);
for (const [id, read] of [["x", (input) => input.value], ["smooth", (input) => Number(input.value)], ["seeds", (input) => input.checked]]) {
  // A browser that goes back may have kept a choice.
  state[id] = read(at(id));
  at(id).addEventListener("change", () => {
    state[id] = read(at(id));
    render();
  });
}

// --- Learning curves ---

/** The mean of each value and those before it, so many in all. */
const smooth = (points) => (state.smooth === 1 ? points : points.map((p, i) => {
  const window = points.slice(Math.max(0, i + 1 - state.smooth), i + 1);
  return { x: p.x, y: window.reduce((sum, q) => sum + q.y, 0) / window.length, n: p.n };
}));

const units = [[1, "s"], [60, "min"], [3600, "h"]];
function xOf(cells) {
  if (state.x === "steps") return { of: (p) => p.step, name: "environment steps", format: short, head: (x) => `step ${comma.format(x)}` };
  const longest = Math.max(0, ...cells.flatMap((cell) => cell.curve.map((p) => p.wall_s ?? 0)));
  const [unit, name] = units.findLast(([unit]) => longest >= 3 * unit) ?? units[0];
  return { of: (p) => (p.wall_s == null ? null : p.wall_s / unit), name: `wall-clock, ${name}`, format: short, head: (x) => `${show(x)} ${name}` };
}

function series(cell, x) {
  const points = (all, y) => all.map((p) => ({ x: x.of(p), y: y(p), low: p.interval?.low, high: p.interval?.high, n: p.runs ? plural(p.runs, "seed") : null })).filter((p) => p.x != null);
  const runs = cell.runs.map((i) => data.runs[i]);
  const first = cell.curve[0]?.runs;
  const whole = cell.curve.findIndex((p) => p.runs !== first);
  const mean = points(cell.curve, (p) => p.value);
  if (runs.some((run) => run.origin === "published-mean")) mean.forEach((p) => (p.n = "published mean"));
  const ends = runs.filter((run) => !run.finished && run.points.length).map((run) => ({ run, p: run.points.at(-1) }));
  return {
    name: cell.algorithm,
    place: place(cell.algorithm),
    points: smooth(mean),
    whole: whole < 0 ? mean.length : whole,
    seeds: state.seeds && runs.length > 1 ? runs.map((run) => smooth(points(run.points, (p) => p.score))) : [],
    ends: ends.map(({ run, p }) => ({ x: x.of(p), y: p.score, text: `seed ${run.seed}: stopped at step ${comma.format(run.reached)}` })).filter((p) => p.x != null),
  };
}

function curveCard(task) {
  const cells = cellsOf(task);
  const x = xOf(cells);
  const lines = cells.map((cell) => series(cell, x));
  // What holds of several algorithms is said once.
  const said = new Map();
  for (const cell of cells) for (const remark of cell.remarks) said.set(remark, [...(said.get(remark) ?? []), cell.algorithm]);
  const remarks = [...said].map(([remark, names]) => el("li", {}, el("b", {}, names.join(", ")), ` – ${remark}`));
  const untimed = lines.filter((line) => !line.points.length).map((line) => line.name);
  if (untimed.length) remarks.push(el("li", {}, `nothing to draw for ${untimed.join(", ")}: ${state.x === "wall" ? "no time is known, or " : ""}no evaluation`));
  return el("div", { class: "card" }, el("h3", {}, task.name),
    el("p", { class: "quiet" }, `compared at step ${comma.format(task.horizon)}`),
    lineChart({ label: `Learning curves on ${task.name}`, series: lines, xName: x.name, yName: "return", xFormat: x.format, tipHead: x.head }),
    remarks.length ? el("ul", { class: "remarks" }, remarks) : null);
}

// --- Over tasks ---

function aggregateCards() {
  const all = data.aggregate;
  if (!all) return [];
  const members = all.members.filter((member) => state.algorithms.has(member.algorithm));
  const plain = (member, points) => ({ name: member.algorithm, place: place(member.algorithm), points, whole: points.length, seeds: [], ends: [] });
  const rows = members.map((member) => ({ name: member.algorithm, place: place(member.algorithm), value: member.iqm.value, ...member.iqm.interval })).sort((a, b) => b.value - a.value);
  const curves = members.map((member) => plain(member, member.curve.map((p) => ({ x: p.step, y: p.value, low: p.interval?.low, high: p.interval?.high, n: plural(p.runs, "run") }))));
  const profiles = members.map((member) => plain(member, all.thresholds.map((tau, i) => ({ x: tau, y: member.above[i], ...member.above_intervals?.[i] }))));
  const card = (title, text, chart, wide) => el("div", { class: wide ? "card wide" : "card" }, el("h3", {}, title), el("p", { class: "quiet" }, text), chart);
  if (!rows.length) return [];
  return [
    card("Interquartile mean", "of the normalised scores of all runs and tasks", dotChart({ label: "Interquartile means", rows, xName: "normalised score" })),
    card("Interquartile mean by step", "of the runs that reach the step of comparison", lineChart({ label: "Interquartile mean by step", series: curves, xName: "environment steps", yName: "normalised IQM", tipHead: (x) => `step ${comma.format(x)}` })),
    card("Performance profile", "the share of runs whose normalised score is above τ", lineChart({ label: "Performance profile", series: profiles, xName: "normalised score τ", yName: "share above τ", tipHead: (x) => `τ = ${show(x)}` })),
    members.length > 1 ? card("Probability of improvement", "that a run of the row beats one of the column on the same task", matrix(members.map((member) => member.algorithm)), true) : null,
  ].filter(Boolean);
}

function matrix(names) {
  const cell = (x, y) => {
    const pair = data.aggregate.improvements.find((pair) => pair.x === x && pair.y === y);
    if (!pair) return el("td", {}, "");
    const { value, interval } = pair.probability;
    const tint = `color-mix(in srgb, ${colour(value >= 0.5 ? 0 : 1)} ${Math.round(Math.abs(value - 0.5) * 90)}%, transparent)`;
    return el("td", { style: `background:${tint}` }, value.toFixed(2), interval ? el("small", {}, `${interval.low.toFixed(2)} – ${interval.high.toFixed(2)}`) : null);
  };
  return scroll("Probabilities of improvement", el("table", { class: "matrix" },
    el("thead", {}, el("tr", {}, el("th", {}, ""), names.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, names.map((x) => el("tr", {}, el("th", { scope: "row" }, x), names.map((y) => cell(x, y)))))));
}

// --- Tables ---

const scroll = (label, table) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);

/** Tasks across, algorithms down; `show` answers the texts of a cell, the second small. */
function grid(label, head, show) {
  const tasks = tasksShown();
  const rows = data.algorithms.filter((name) => state.algorithms.has(name) && tasks.some((task) => task.cells.some((cell) => cell.algorithm === name)));
  const cell = (name, task) => {
    const cell = task.cells.find((cell) => cell.algorithm === name);
    const [text, small] = (cell && show(cell, task)) ?? ["–"];
    return el("td", {}, text, small ? el("small", {}, small) : null);
  };
  return scroll(label, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, head), tasks.map((task) => el("th", { scope: "col" }, task.name)))),
    el("tbody", {}, rows.map((name) => el("tr", {}, el("th", { scope: "row" }, swatch(place(name)), name), tasks.map((task) => cell(name, task)))))));
}

const published = (cell) => cell.runs.some((i) => data.runs[i].origin === "published-mean");

function scoreTables() {
  const seeds = (cell) => (published(cell) ? "published mean" : plural(cell.scores.length, "seed"));
  const interval = (estimate) => (estimate.interval ? `${range(estimate.interval).trim()} ` : "");
  const tables = [grid("Scores", "return", (cell) => cell.score && [show(cell.score.value), `${interval(cell.score)}${seeds(cell)}`])];
  if (data.tasks.some((task) => task.threshold != null)) {
    tables.push(el("p", { class: "quiet" }, el("br"), `Normalised: uniform actions 0, ${data.options.reference} 1.`),
      grid("Normalised scores", "normalised", (cell) => cell.normalised && [cell.normalised.value.toFixed(2), `${interval(cell.normalised)}${seeds(cell)}`]));
  }
  return tables;
}

function duration(seconds) {
  const [unit, name] = units.findLast(([unit]) => seconds >= 2 * unit) ?? units[0];
  return `${show(seconds / unit)} ${name}`;
}

function timeTables() {
  const tables = [grid("Wall-clock", "to the step of comparison", (cell) => cell.wall_s != null && [duration(cell.wall_s)])];
  if (data.tasks.some((task) => task.threshold != null)) {
    tables.push(el("p", { class: "quiet" }, el("br"), `Until a run's evaluation first reaches a normalised score of ${data.options.threshold}: the median over seeds, and how many reach it.`),
      grid("Time to threshold", "steps, time", (cell) => {
        const time = cell.to_threshold;
        if (!time) return null;
        const count = `${time.reached} of ${plural(time.of, "seed")}`;
        return time.step == null ? ["not reached", count] : [comma.format(Math.round(time.step)), `${time.wall_s == null ? "" : `${duration(time.wall_s)}, `}${count}`];
      }));
  }
  if (data.action_times.length) {
    const row = (time) => el("tr", {}, el("th", { scope: "row" }, time.policy), el("td", {}, time.system), el("td", {}, String(time.network_calls)), el("td", {}, show(time.us_p50)), el("td", {}, show(time.us_p99)));
    tables.push(el("p", { class: "quiet" }, el("br"), "An action at batch 1, in microseconds."),
      scroll("Time of an action", el("table", {}, el("thead", {}, el("tr", {}, ["policy", "system", "network calls", "median", "99th percentile"].map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, data.action_times.map(row)))));
  }
  return tables;
}

// --- Runs and their settings ---

function stateOf(run) {
  if (run.origin !== "folder") return [run.origin === "table" ? `others' run, to step ${comma.format(run.reached)}` : "others' mean over runs", false];
  const of = run.asked == null ? "" : ` of ${comma.format(run.asked)}`;
  return run.finished ? [`finished at step ${comma.format(run.reached)}`, false] : [`stopped at step ${comma.format(run.reached)}${of} (or is still running)`, true];
}

function runTable() {
  const shown = data.runs.map((run, i) => ({ run, i })).filter(({ run }) => state.algorithms.has(run.algorithm) && state.tasks.has(run.task));
  const row = ({ run, i }) => {
    const [text, warn] = stateOf(run);
    const last = run.points.at(-1);
    return el("tr", {}, el("th", { scope: "row" }, swatch(place(run.algorithm)), run.algorithm), el("td", {}, run.task), el("td", {}, runName(run)),
      el("td", { class: warn && "state-warn" }, warn ? "△ " : "", text), el("td", {}, last ? show(last.score) : "–"),
      el("td", {}, run.settings.length ? el("button", { type: "button", "aria-label": `Settings of ${run.algorithm}, ${run.task}, ${runName(run)}`, onclick: () => openSettings(i) }, "settings") : ""));
  };
  return scroll("Runs", el("table", {}, el("thead", {}, el("tr", {}, ["algorithm", "task", "run", "state", "last evaluation", ""].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, shown.map(row))));
}

function openSettings(index) {
  const run = data.runs[index];
  const others = data.runs.filter((other, i) => i !== index && other.algorithm === run.algorithm && other.settings.length);
  const tables = others.map((other) => ({ name: `${other.task} ${runName(other)}`, settings: new Map(other.settings) }));
  const own = new Map(run.settings);
  const keys = [...new Set([...own.keys(), ...tables.flatMap(({ settings }) => [...settings.keys()])])];
  const differing = (key) => {
    const values = new Map();
    for (const { name, settings } of tables) {
      const value = settings.get(key) ?? "not set";
      if (value !== (own.get(key) ?? "not set")) values.set(value, [...(values.get(value) ?? []), name]);
    }
    return [...values].map(([value, names]) => `${value} (${names.length > 3 ? plural(names.length, "run") : names.join(", ")})`);
  };
  const rows = keys.map((key) => ({ key, value: own.get(key) ?? "not set", elsewhere: differing(key) }));
  // What the title says already is no news, and how a run was started comes last.
  const known = new Set(["run.algo", "run.env", "run.seed"]);
  const late = ({ key }) => key.startsWith("run.") || key.startsWith("versions.");
  const differ = rows.filter(({ key, elsewhere }) => elsewhere.length && !known.has(key)).sort((a, b) => late(a) - late(b));
  const line = ({ key, value, elsewhere }) => el("tr", { class: elsewhere.length && "differs" }, el("th", { scope: "row" }, key), el("td", {}, value));
  const dialog = at("settings");
  dialog.replaceChildren(
    el("button", { class: "close", type: "button", onclick: () => dialog.close() }, "close"),
    el("h2", { id: "settings-title", style: "margin-top:0" }, `${run.algorithm}, ${run.task}, ${runName(run)}`),
    el("p", { class: "quiet" }, stateOf(run)[0]),
    el("h3", {}, others.length ? `Differs from ${plural(others.length, "other run")} of ${run.algorithm}` : `The only run of ${run.algorithm}`),
    others.length && !differ.length ? el("p", { class: "quiet" }, "in nothing but task and seed") : "",
    differ.length ? el("table", {}, el("thead", {}, el("tr", {}, ["key", "here", "elsewhere"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, differ.map(({ key, value, elsewhere }) => el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, value), el("td", {}, elsewhere.join("; ")))))) : "",
    el("h3", {}, "All settings"), el("table", {}, el("tbody", {}, rows.map(line))));
  dialog.showModal();
  dialog.scrollTop = 0;
}

// --- All of it ---

function words() {
  const folders = data.runs.filter((run) => run.origin === "folder");
  const single = data.tasks.some((task) => task.cells.some((cell) => cell.scores.length === 1));
  document.title = `Report: ${data.algorithms.join(", ")}`;
  at("summary").textContent = [plural(folders.length, "run"), folders.length < data.runs.length ? `${plural(data.runs.length - folders.length, "curve")} of others` : null, plural(data.algorithms.length, "algorithm"), plural(data.tasks.length, "task")].filter(Boolean).join(" · ");
  at("about-curves").textContent = `Mean return of deterministic evaluations over seeds; bands are 95 % bootstrap intervals over seeds, never over episodes.${single ? " A curve of one seed has no band." : ""} A dashed line has fewer seeds than at its start; × marks where a run stopped.`;
  const all = data.aggregate;
  at("over").hidden = !all;
  if (all) {
    const missing = all.members.some((member) => !member.iqm.interval);
    at("about-over").textContent = `Normalised scores on ${all.tasks.join(", ")}: uniform actions 0, ${data.options.reference} 1. ${missing ? "Where a task has one seed only, there is no interval. " : "Intervals are 95 % stratified bootstrap over seeds. "}${all.left_out.length ? `Left out: ${all.left_out.join("; ")}.` : ""}`;
  }
  at("about-scores").textContent = "A run's score is the mean of its last three deterministic evaluations up to the step of comparison; below is the mean over seeds, with its 95 % interval where there are two seeds or more.";
  const machines = [...new Set(folders.flatMap((run) => run.settings.filter(([key]) => key === "run.processor").map(([, value]) => value.replaceAll('"', ""))))];
  at("about-time").textContent = `Times are as measured while the runs were made${machines.length ? `, on ${machines.join(", ")}` : ""}; what else a machine did is in them.`;
  const how = [
    ["Step of comparison", "The furthest step that more than half of a task's algorithms have reached with some seed (or --at). A run that ends before it is drawn, and is in no score."],
    ["Interval", "95 % percentile bootstrap over seeds (10,000 draws; 2,000 for each point of a curve), stratified by task where tasks are put together. With few seeds it is too narrow: of two it is just their range."],
    ["Normalised score", `(score − uniform) / (reference − uniform). Uniform is the mean return before the first update, when actions are uniform; the reference is the mean score of ${data.options.reference} at the same step. Their own uncertainty is not in the intervals.`],
    ["Interquartile mean", "The mean of the middle half of all scores of all tasks."],
    ["Performance profile", "For every τ the share of runs above it, tasks weighing alike."],
    ["Probability of improvement", "Over all pairs of runs on the same task, how often one beats the other (a draw counts half), averaged over tasks."],
    ["Source", "Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021 (arXiv 2108.13264)."],
  ];
  at("how").replaceChildren(...how.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  at("foot").textContent = `Made by runner report ${data.version}. The tables (CSV, Markdown) and figures (SVG, PNG) stand beside this page.`;
}

function render() {
  tip.hidden = true;
  at("curves").replaceChildren(...tasksShown().map(curveCard));
  at("aggregate").replaceChildren(...aggregateCards());
  at("scores").replaceChildren(...scoreTables());
  at("time").replaceChildren(...timeTables());
  at("runs").replaceChildren(runTable());
}
words();
render();
