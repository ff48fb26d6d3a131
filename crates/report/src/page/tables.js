// Tables: scores, times, runs and their settings.

const scroll = (label, table) =>
  el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);

/** A table with column names and rows. */
const columns = (names, rows) =>
  el(
    "table",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        names.map((name) => el("th", { scope: "col" }, name)),
      ),
    ),
    el("tbody", {}, rows),
  );

/** One column per task, one row per algorithm; `show` returns a cell's texts, the second small. */
function grid(label, head, show) {
  const tasks = tasksShown();
  // A published mean has no times.
  const told = (cell, task) => !cell.published || show(cell, task);
  const rows = data.algorithms.filter(
    (name) =>
      state.algorithms.has(name) &&
      tasks.some((task) => task.cells.some((cell) => cell.algorithm === name && told(cell, task))),
  );
  const cell = (name, task) => {
    const cell = task.cells.find((cell) => cell.algorithm === name);
    const [text, small] = (cell && show(cell, task)) || ["–"];
    return el("td", {}, text, small ? el("small", {}, small) : null);
  };
  return scroll(
    label,
    columns(
      [head, ...tasks.map((task) => task.name)],
      rows.map((name) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, swatch(place(name)), name),
          tasks.map((task) => cell(name, task)),
        ),
      ),
    ),
  );
}

function scoreTables() {
  const seeds = (cell) => (cell.published ? "published mean" : plural(cell.scores.length, "seed"));
  const interval = (estimate) => (estimate.interval ? `${range(estimate.interval).trim()} ` : "");
  const tables = [
    grid(
      "Scores",
      "return",
      (cell) => cell.score && [show(cell.score.value), `${interval(cell.score)}${seeds(cell)}`],
    ),
  ];
  if (data.tasks.some((task) => task.threshold != null)) {
    tables.push(
      el("p", { class: "quiet" }, el("br"), `Normalised: uniform actions 0, ${data.options.reference} 1.`),
      grid(
        "Normalised scores",
        "normalised",
        (cell) =>
          cell.normalised && [cell.normalised.value.toFixed(2), `${interval(cell.normalised)}${seeds(cell)}`],
      ),
    );
  }
  return tables;
}

function duration(seconds) {
  const [unit, name] = units.findLast(([unit]) => seconds >= 2 * unit) ?? units[0];
  return `${show(seconds / unit)} ${name}`;
}

function timeTables() {
  const tables = [
    grid("Wall-clock", "to the step of comparison", (cell) => cell.wall_s != null && [duration(cell.wall_s)]),
  ];
  if (data.tasks.some((task) => task.threshold != null)) {
    tables.push(
      el(
        "p",
        { class: "quiet" },
        el("br"),
        `Time until an evaluation of a run first reaches a normalised score of ${data.options.threshold}: the median over seeds, and how many reach it.`,
      ),
      grid("Time to threshold", "steps, time", (cell) => {
        const time = cell.to_threshold;
        if (!time) return null;
        const count = `${time.reached} of ${plural(time.of, "seed")}`;
        return time.step == null
          ? ["not reached", count]
          : [
              comma.format(Math.round(time.step)),
              `${time.wall_s == null ? "" : `${duration(time.wall_s)}, `}${count}`,
            ];
      }),
    );
  }
  const costs = data.costs.filter((cost) => state.algorithms.has(cost.algorithm));
  if (costs.length) {
    const row = (cost) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, swatch(place(cost.algorithm)), cost.algorithm),
        el("td", {}, comma.format(cost.runs)),
        el("td", {}, comma.format(cost.steps)),
        el("td", {}, show(cost.core_hours)),
        el("td", {}, show(cost.core_hours / cost.runs)),
        el("td", {}, show((cost.core_hours / cost.steps) * 1e6)),
      );
    tables.push(
      el("p", { class: "quiet" }, el("br"), "Core-hours: hours until a run's last evaluation times its threads."),
      scroll(
        "Core-hours",
        columns(["algorithm", "runs", "steps", "core-hours", "per run", "per million steps"], costs.map(row)),
      ),
    );
  }
  if (data.action_times.length) {
    const row = (time) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, time.policy),
        el("td", {}, time.system),
        el("td", {}, String(time.network_calls)),
        el("td", {}, show(time.us_p50)),
        el("td", {}, show(time.us_p99)),
      );
    tables.push(
      el("p", { class: "quiet" }, el("br"), "An action at batch 1, in microseconds."),
      scroll(
        "Time of an action",
        columns(
          ["policy", "system", "network calls", "median", "99th percentile"],
          data.action_times.map(row),
        ),
      ),
    );
  }
  return tables;
}

// --- Runs and their settings ---

function stateOf(run) {
  if (run.origin !== "folder")
    return [
      run.origin === "table"
        ? `published run, to step ${comma.format(run.reached)}`
        : "published mean over runs",
      false,
    ];
  const of = run.asked == null ? "" : ` of ${comma.format(run.asked)}`;
  return run.finished
    ? [`finished at step ${comma.format(run.reached)}`, false]
    : run.failed
      ? [`failed at step ${comma.format(run.reached)}${of}: ${run.failed}`, true]
      : [`stopped at step ${comma.format(run.reached)}${of} (or is still running)`, true];
}

function runTable() {
  const shown = data.runs
    .map((run, i) => ({ run, i }))
    .filter(({ run }) => state.algorithms.has(run.algorithm) && state.tasks.has(run.task));
  const row = ({ run, i }) => {
    const [text, warn] = stateOf(run);
    const last = run.points.at(-1);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, swatch(place(run.algorithm)), run.algorithm),
      el("td", {}, run.task),
      el("td", {}, runName(run)),
      el("td", { class: warn && "state-warn" }, warn ? "△ " : "", text),
      el("td", {}, last ? show(last.score) : "–"),
      el(
        "td",
        {},
        run.settings.length
          ? el(
              "button",
              {
                type: "button",
                "aria-label": `Settings of ${run.algorithm}, ${run.task}, ${runName(run)}`,
                onclick: () => openSettings(i),
              },
              "settings",
            )
          : "",
        data.replays?.episodes[i] &&
          el(
            "button",
            {
              type: "button",
              "aria-label": `Replay of ${run.algorithm}, ${run.task}, ${runName(run)}`,
              onclick: () => openReplay(i),
            },
            "▶ replay",
          ),
      ),
    );
  };
  return scroll(
    "Runs",
    columns(["algorithm", "task", "run", "state", "last evaluation", ""], shown.map(row)),
  );
}

/** Shows an episode of a run in 3D: the page of `runner show`, within this one. */
function openReplay(index) {
  const { viewer, episodes } = data.replays;
  // "<" is escaped, so that a name in the data can't close their element.
  const text = episodes[index].replaceAll("<", "\\u003c");
  const frame = el("iframe", { title: "An episode in 3D" });
  frame.srcdoc = viewer.replace('{"data": "here"}', () => text);
  const dialog = at("replay");
  const close = el("button", { class: "close", type: "button", onclick: () => dialog.close() }, "close");
  dialog.replaceChildren(close, frame);
  dialog.onclose = () => dialog.replaceChildren(); // it would play on
  dialog.showModal();
}

function openSettings(index) {
  const run = data.runs[index];
  const others = data.runs.filter(
    (other, i) => i !== index && other.algorithm === run.algorithm && other.settings.length,
  );
  const tables = others.map((other) => ({
    name: `${other.task} ${runName(other)}`,
    settings: new Map(other.settings),
  }));
  const own = new Map(run.settings);
  const keys = [...new Set([...own.keys(), ...tables.flatMap(({ settings }) => [...settings.keys()])])];
  const differing = (key) => {
    const values = new Map();
    for (const { name, settings } of tables) {
      const value = settings.get(key) ?? "not set";
      if (value !== (own.get(key) ?? "not set")) values.set(value, [...(values.get(value) ?? []), name]);
    }
    return [...values].map(
      ([value, names]) => `${value} (${names.length > 3 ? plural(names.length, "run") : names.join(", ")})`,
    );
  };
  const rows = keys.map((key) => ({ key, value: own.get(key) ?? "not set", elsewhere: differing(key) }));
  // Skip what the title shows; settings of how the run was started come last.
  const known = new Set(["run.algo", "run.env", "run.seed"]);
  const late = ({ key }) => key.startsWith("run.") || key.startsWith("versions.");
  const differ = rows
    .filter(({ key, elsewhere }) => elsewhere.length && !known.has(key))
    .sort((a, b) => late(a) - late(b));
  const line = ({ key, value, elsewhere }) =>
    el("tr", { class: elsewhere.length && "differs" }, el("th", { scope: "row" }, key), el("td", {}, value));
  const dialog = at("settings");
  dialog.replaceChildren(
    el("button", { class: "close", type: "button", onclick: () => dialog.close() }, "close"),
    el(
      "h2",
      { id: "settings-title", style: "margin-top:0" },
      `${run.algorithm}, ${run.task}, ${runName(run)}`,
    ),
    el("p", { class: "quiet" }, stateOf(run)[0]),
    el(
      "h3",
      {},
      others.length
        ? `Differs from ${plural(others.length, "other run")} of ${run.algorithm}`
        : `The only run of ${run.algorithm}`,
    ),
    others.length && !differ.length ? el("p", { class: "quiet" }, "only in task and seed") : "",
    differ.length
      ? columns(
          ["key", "here", "elsewhere"],
          differ.map(({ key, value, elsewhere }) =>
            el(
              "tr",
              {},
              el("th", { scope: "row" }, key),
              el("td", { "data-label": "here: " }, value),
              el("td", { "data-label": "elsewhere: " }, elsewhere.join("; ")),
            ),
          ),
        )
      : "",
    el("h3", {}, "All settings"),
    el("table", {}, el("tbody", {}, rows.map(line))),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}
