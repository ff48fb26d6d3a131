"use strict";
// The report's data, the current selection, and helpers of all parts of the page.

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
const isPublished = (algorithm) =>
  data.tasks.some((task) => task.cells.some((cell) => cell.algorithm === algorithm && cell.published));
const cellsOf = (task) => task.cells.filter((cell) => state.algorithms.has(cell.algorithm));
const tasksShown = () => data.tasks.filter((task) => state.tasks.has(task.name));
const runName = (run) => (run.origin === "published-mean" ? "published mean" : `seed ${run.seed}`);

const units = [
  [1, "s"],
  [60, "min"],
  [3600, "h"],
];
