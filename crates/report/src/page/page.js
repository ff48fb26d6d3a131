// The page: selection, texts, rendering.

// --- Colour scheme ---

document.head.append(
  el(
    "style",
    {},
    `:root{${data.palette.light
      .map((light, i) => `--c${i}:light-dark(${light},${data.palette.dark[i]})`)
      .join(";")}}`,
  ),
);
at("theme").addEventListener("click", () => {
  const root = document.documentElement.style;
  const dark = root.colorScheme
    ? root.colorScheme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = dark ? "light" : "dark";
});

// --- Selection ---

function chips(host, names, chosen, mark) {
  for (const name of names) {
    const button = el("button", { type: "button", "aria-pressed": "true" }, mark(name), name);
    button.addEventListener("click", (event) => {
      // With Alt, only this one; again, all.
      if (event.altKey) {
        const alone = chosen.size === 1 && chosen.has(name);
        chosen.clear();
        (alone ? names : [name]).forEach((other) => chosen.add(other));
      } else if (!chosen.delete(name)) chosen.add(name);
      [...host.children].forEach((chip, i) => chip.setAttribute("aria-pressed", chosen.has(names[i])));
      render();
    });
    button.title = "Show or hide; with Alt, show only this one";
    host.append(button);
  }
}
chips(at("algorithms"), data.algorithms, state.algorithms, (name) => swatch(place(name)));
chips(
  at("tasks"),
  data.tasks.map((task) => task.name),
  state.tasks,
  () => null,
);
for (const [id, read] of [
  ["x", (input) => input.value],
  ["smooth", (input) => Number(input.value)],
  ["seeds", (input) => input.checked],
]) {
  // On navigating back, the browser may have restored a selection.
  state[id] = read(at(id));
  at(id).addEventListener("change", () => {
    state[id] = read(at(id));
    render();
  });
}

// --- Texts and rendering ---

function words() {
  const folders = data.runs.filter((run) => run.origin === "folder");
  const single = data.tasks.some((task) => task.cells.some((cell) => cell.scores.length === 1));
  document.title = `Report: ${data.algorithms.join(", ")}`;
  at("summary").textContent = [
    plural(folders.length, "run"),
    folders.length < data.runs.length
      ? `${plural(data.runs.length - folders.length, "published curve")}`
      : null,
    plural(data.algorithms.length, "algorithm"),
    plural(data.tasks.length, "task"),
  ]
    .filter(Boolean)
    .join(" · ");
  at("left-out").replaceChildren(...data.left_out.map((run) => el("li", {}, `left out: ${run}`)));
  at("about-curves").textContent =
    `Mean return of deterministic evaluations over seeds; bands are 95 % bootstrap intervals over seeds, never over episodes.${single ? " A curve of one seed has no band." : ""} A smoothed curve has no band. A line is dashed where it has fewer seeds than at its start; × marks the end of a stopped run.${data.runs.some((run) => run.origin === "published-mean") ? " Dashed lines with hollow marks are others' published means, drawn as far as the runs here and in no statistic." : ""}`;
  const all = data.aggregate;
  at("over").hidden = !all;
  if (all) {
    const missing = all.members.some((member) => !member.iqm.interval);
    at("about-over").textContent =
      `Normalised scores on ${all.tasks.join(", ")}: uniform actions 0, ${data.options.reference} 1. ${missing ? "There is no interval because a task has only one seed. " : "Intervals are 95 % stratified bootstrap over seeds. "}${all.left_out.length ? `Excluded: ${all.left_out.join("; ")}.` : ""}`;
  }
  at("about-scores").textContent =
    "A run's score is the mean of its last three deterministic evaluations up to the step of comparison. The table shows the mean over seeds, with a 95 % interval if there are at least two.";
  const machines = [
    ...new Set(
      folders.flatMap((run) =>
        run.settings.filter(([key]) => key === "run.processor").map(([, value]) => value.replaceAll('"', "")),
      ),
    ),
  ];
  at("about-time").textContent =
    `Times were measured during the runs${machines.length ? `, on ${machines.join(", ")}` : ""}, and depend on the other load of the machine.`;
  const how = [
    [
      "Step of comparison",
      "The largest step that more than half of a task's algorithms have reached with at least one seed (or --at). A run that ends earlier is drawn but enters no score.",
    ],
    [
      "Interval",
      "95 % percentile bootstrap over seeds (10,000 resamples; 2,000 for each point of a curve), stratified by task for aggregates. With few seeds it is too narrow: for two seeds it is their range.",
    ],
    [
      "Normalised score",
      `(score − uniform) / (reference − uniform). Uniform is the mean return before the first update, when actions are uniform; the reference is the mean score of ${data.options.reference} at the step of comparison. The intervals do not include the uncertainty of these two.`,
    ],
    ["Interquartile mean", "The mean of the middle half of all scores of all tasks."],
    ["Performance profile", "For every τ the share of runs above it, with equal weight per task."],
    [
      "Probability of improvement",
      "Over all pairs of runs on the same task, how often one beats the other (a tie counts half), averaged over tasks.",
    ],
    [
      "Source",
      "Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021 (arXiv 2108.13264).",
    ],
  ];
  at("how").replaceChildren(...how.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  at("foot").textContent =
    `Generated by runner report ${data.version}. The same folder contains the tables (CSV, Markdown) and figures (SVG, PNG).`;
}

function render() {
  tip.hidden = true;
  const drawn = (task) => task.cells.some((cell) => cell.curve.length);
  const empty = tasksShown().filter((task) => !drawn(task));
  at("curves").replaceChildren(
    ...tasksShown().filter(drawn).map(curveCard),
    ...empty.map((task) => el("p", { class: "quiet" }, `${task.name}: no evaluation yet`)),
  );
  const terms = tasksShown().flatMap(termCards);
  at("terms").hidden = !terms.length;
  at("term-cards").replaceChildren(...terms);
  at("aggregate").replaceChildren(...aggregateCards());
  at("scores").replaceChildren(...scoreTables());
  at("time").replaceChildren(...timeTables());
  at("runs").replaceChildren(runTable());
}
words();
render();
