// Charts as inline SVG. They depend only on series, rows and text, not on runs.

const SVG = "http://www.w3.org/2000/svg";
const tip = document.getElementById("tip");

/** An element with attributes and children; strings become text nodes, never markup. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  return fill(node, attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

const comma = new Intl.NumberFormat("en");

/** Formats a number with few digits: 4,358 or 12.4 or 0.83. */
function show(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return comma.format(Number(value.toFixed(digits)));
}

/** Formats 30,000 as 30k. */
function short(value) {
  const size = Math.abs(value);
  const [unit, name] = size >= 1e6 ? [1e6, "M"] : size >= 1e3 ? [1e3, "k"] : [1, ""];
  return comma.format(Number((value / unit).toPrecision(3))) + name;
}

const colour = (place) => `var(--c${place % data.palette.light.length})`;

/** The SVG path of an algorithm's mark around a point. */
function shape(place, x, y, r) {
  switch (place % data.palette.shapes) {
    case 0:
      return `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
    case 1:
      return `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
    case 2:
      return `M${x},${y - r - 1}l${r + 1},${2 * r + 1}h${-2 * r - 2}z`;
    case 3:
      return `M${x},${y - r - 1}l${r + 1},${r + 1}l${-r - 1},${r + 1}l${-r - 1},${-r - 1}z`;
    default:
      return `M${x},${y + r + 1}l${r + 1},${-2 * r - 1}h${-2 * r - 2}z`;
  }
}

/** How a mark is filled: one of a published mean is hollow. */
const paint = (place, hollow) =>
  hollow
    ? { fill: "var(--card)", stroke: colour(place), "stroke-width": 1.4 }
    : { fill: colour(place) };

function swatch(place) {
  return svg(
    "svg",
    { class: "swatch", viewBox: "0 0 14 14", "aria-hidden": true },
    svg("path", { d: shape(place, 7, 7, 4.5), ...paint(place, isPublished(data.algorithms[place])) }),
  );
}

/** Round tick values that cover a range. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  const all = [];
  const first = Math.ceil(low / step - 1e-9);
  for (let i = 0; i <= 2 * most && (first + i) * step <= high + step * 1e-9; i++) all.push((first + i) * step);
  return all;
}

/** Draws into `host` now and when its width changes. */
function drawn(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(host.clientWidth);
    if (now && now !== width) host.replaceChildren(draw((width = now)));
  }).observe(host);
  return host;
}

/**
 * Lines with bands. `series`: {name, place, points: [{x, y, low, high, n}], whole, seeds, ends};
 * from point `whole` on, some runs have ended and the line is dashed. Marks of a published mean are hollow.
 */
function lineChart({ label, series, xName, yName, xFormat = short, tipHead }) {
  return drawn(el("div"), (width) => {
    const height = Math.round(Math.min(300, Math.max(220, width * 0.62)));
    const box = { left: 52, right: width - 18, top: 10, bottom: height - 40 };
    const all = series.flatMap((line) => line.points);
    const extra = series.flatMap((line) => [...line.seeds.flat(), ...line.ends]);
    const xs = [...all, ...extra].map((point) => point.x);
    const ys = [...all.flatMap((p) => [p.y, p.low ?? p.y, p.high ?? p.y]), ...extra.map((p) => p.y)];
    const picture = svg("svg", {
      class: "chart",
      viewBox: `0 0 ${width} ${height}`,
      height,
      tabindex: 0,
      role: "img",
      "aria-label": `${label}. ${series.map(spoken).join("; ")}. Arrow keys read values.`,
    });
    if (!xs.length) {
      picture.append(
        svg(
          "text",
          { x: width / 2, y: height / 2, "text-anchor": "middle" },
          "no values for the selected algorithms",
        ),
      );
      return picture;
    }
    const [x0, x1] = [Math.min(0, ...xs), Math.max(...xs) || 1];
    let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    // Values that differ by their rounding only are one value.
    const spread = y1 - y0 > 1e-9 * Math.max(Math.abs(y0), Math.abs(y1)) ? y1 - y0 : 0;
    const margin = spread * 0.05 || Math.abs(y1) * 0.1 || 1;
    [y0, y1] = [y0 - margin, y1 + margin];
    const X = (x) => box.left + ((x - x0) / (x1 - x0)) * (box.right - box.left);
    const Y = (y) => box.bottom - ((y - y0) / (y1 - y0)) * (box.bottom - box.top);
    const path = (points) =>
      points.map((p, i) => `${i ? "L" : "M"}${X(p.x).toFixed(1)},${Y(p.y).toFixed(1)}`).join("");

    for (const y of ticks(y0, y1, 5)) {
      picture.append(
        svg("line", { class: "grid-line", x1: box.left, x2: box.right, y1: Y(y), y2: Y(y) }),
        svg("text", { x: box.left - 6, y: Y(y) + 4, "text-anchor": "end" }, short(y)),
      );
    }
    for (const x of ticks(x0, x1, Math.max(2, Math.floor(width / 90)))) {
      picture.append(svg("text", { x: X(x), y: box.bottom + 16, "text-anchor": "middle" }, xFormat(x)));
    }
    picture.append(
      svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, xName),
      svg(
        "text",
        {
          x: 12,
          y: (box.top + box.bottom) / 2,
          "text-anchor": "middle",
          transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})`,
        },
        yName,
      ),
    );

    for (const { place, points } of series) {
      for (const part of parts(points)) {
        const back = [...part].reverse();
        const outline = path([
          ...part.map((p) => ({ x: p.x, y: p.high })),
          ...back.map((p) => ({ x: p.x, y: p.low })),
        ]);
        picture.append(svg("path", { d: `${outline}z`, fill: colour(place), "fill-opacity": 0.16 }));
      }
    }
    for (const { place, points, whole, published, seeds, ends } of series) {
      for (const seed of seeds)
        picture.append(
          svg("path", {
            d: path(seed),
            fill: "none",
            stroke: colour(place),
            "stroke-opacity": 0.5,
            "stroke-width": 1,
          }),
        );
      const line = { fill: "none", stroke: colour(place), "stroke-width": 2, "stroke-linejoin": "round" };
      picture.append(svg("path", { ...line, d: path(points.slice(0, whole)) }));
      if (whole < points.length)
        picture.append(
          svg("path", { ...line, d: path(points.slice(Math.max(0, whole - 1))), "stroke-dasharray": "5 4" }),
        );
      // Lines that share a colour are told apart by the shapes of their marks.
      const alike = series.some((line) => line.place >= data.palette.light.length);
      const every = points.length <= 40 ? 1 : alike ? Math.ceil(points.length / 12) : 0;
      for (const [i, p] of points.entries())
        if (every && i % every === 0)
          picture.append(svg("path", { d: shape(place, X(p.x), Y(p.y), 3.2), ...paint(place, published) }));
      for (const end of ends) {
        const [x, y] = [X(end.x), Y(end.y)];
        picture.append(
          svg(
            "path",
            { d: `M${x - 5},${y - 5}l10,10m0,-10l-10,10`, stroke: colour(place), "stroke-width": 2.5 },
            svg("title", {}, end.text),
          ),
        );
      }
    }

    const stops = [...new Set(all.map((p) => p.x))].sort((a, b) => a - b);
    const cross = svg("line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
    const marks = svg("g");
    picture.append(cross, marks);
    let at = -1;
    const go = (index, left, top) => {
      at = Math.max(0, Math.min(stops.length - 1, index));
      const x = stops[at];
      const near = nearest(series, x, (x1 - x0) / 60);
      cross.setAttribute("x1", X(x));
      cross.setAttribute("x2", X(x));
      cross.setAttribute("visibility", "visible");
      marks.replaceChildren(
        ...near.map(({ line, p }) =>
          svg("path", {
            d: shape(line.place, X(p.x), Y(p.y), 4.5),
            fill: colour(line.place),
            stroke: "var(--card)",
          }),
        ),
      );
      const rows = near.map(({ line, p }) => [line, `${show(p.y)}${range(p)}`, p.n]);
      const edge = picture.getBoundingClientRect();
      showTip(tipHead(x), rows, left ?? edge.left + X(x), top ?? edge.top + box.top);
      return `${tipHead(x)}: ${rows.map(([line, text]) => `${line.name} ${text}`).join(", ")}`;
    };
    const leave = () => {
      tip.hidden = true;
      cross.setAttribute("visibility", "hidden");
      marks.replaceChildren();
    };
    picture.addEventListener("pointermove", (event) => {
      const x =
        x0 +
        ((event.clientX - picture.getBoundingClientRect().left - box.left) / (box.right - box.left)) *
          (x1 - x0);
      const distances = stops.map((stop) => Math.abs(stop - x));
      go(distances.indexOf(Math.min(...distances)), event.clientX, event.clientY);
    });
    picture.addEventListener("pointerleave", leave);
    picture.addEventListener("blur", leave);
    picture.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: stops.length - 1 }[event.key];
      if (event.key === "Escape") leave();
      if (to === undefined) return;
      event.preventDefault();
      document.getElementById("spoken").textContent = go(to);
    });
    return picture;
  });
}

/** Consecutive points that have intervals. */
function parts(points) {
  const all = [[]];
  for (const p of points) {
    if (p.low == null) all.push([]);
    else all.at(-1).push(p);
  }
  return all.filter((part) => part.length > 1);
}

/** The point of each line nearest to x, if within a distance; the highest first. */
function nearest(series, x, within) {
  return series
    .map((line) => ({
      line,
      p: line.points.reduce(
        (best, p) => (best && Math.abs(best.x - x) <= Math.abs(p.x - x) ? best : p),
        null,
      ),
    }))
    .filter(({ p }) => p && Math.abs(p.x - x) <= within)
    .sort((a, b) => b.p.y - a.p.y);
}

const range = (p) => (p.low == null ? "" : ` [${show(p.low)}, ${show(p.high)}]`);
const spoken = ({ name, points }) =>
  points.length ? `${name} ends at ${show(points.at(-1).y)}` : `${name}: none`;

function showTip(head, rows, left, top) {
  tip.replaceChildren(
    el("b", {}, head),
    el(
      "table",
      {},
      rows.map(([line, text, n]) =>
        el(
          "tr",
          {},
          el("td", {}, swatch(line.place)),
          el("td", {}, line.name),
          el("td", {}, text),
          el("td", { class: "quiet" }, n ?? ""),
        ),
      ),
    ),
  );
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const x = left + 16 + width > innerWidth ? left - width - 16 : left + 16;
  tip.style.left = `${Math.max(4, Math.min(x, innerWidth - width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(top + 12, innerHeight - height - 4))}px`;
}

/** Values with intervals, one row each: {name, place, value, low, high}. */
function dotChart({ label, rows, xName }) {
  return drawn(el("div"), (width) => {
    const widest = Math.max(...rows.map((row) => row.name.length));
    const box = { left: Math.min(width * 0.4, widest * 7.5 + 14), right: width - 58, top: 8, step: 28 };
    const bottom = box.top + rows.length * box.step;
    const ends = rows.flatMap((row) => [row.value, row.low ?? row.value, row.high ?? row.value]);
    const [x0, x1] = [Math.min(0, ...ends), Math.max(1, ...ends)];
    const X = (x) => box.left + ((x - x0) / (x1 - x0)) * (box.right - box.left);
    const text = rows.map((row) => `${row.name} ${show(row.value)}${range(row)}`).join("; ");
    const picture = svg("svg", {
      class: "chart",
      viewBox: `0 0 ${width} ${bottom + 40}`,
      height: bottom + 40,
      role: "img",
      "aria-label": `${label}: ${text}`,
    });
    for (const x of ticks(x0, x1, Math.max(2, Math.floor(width / 90)))) {
      picture.append(
        svg("line", { class: "grid-line", x1: X(x), x2: X(x), y1: box.top, y2: bottom }),
        svg("text", { x: X(x), y: bottom + 15, "text-anchor": "middle" }, short(x)),
      );
    }
    rows.forEach((row, i) => {
      const y = box.top + (i + 0.5) * box.step;
      picture.append(
        svg("text", { class: "name", x: box.left - 10, y: y + 4, "text-anchor": "end" }, row.name),
      );
      if (row.low != null)
        picture.append(
          svg("line", {
            x1: X(row.low),
            x2: X(row.high),
            y1: y,
            y2: y,
            stroke: colour(row.place),
            "stroke-width": 5,
            "stroke-opacity": 0.55,
            "stroke-linecap": "round",
          }),
        );
      picture.append(
        svg(
          "path",
          { d: shape(row.place, X(row.value), y, 5), fill: colour(row.place) },
          svg("title", {}, `${row.name}: ${show(row.value)}${range(row)}`),
        ),
        svg("text", { class: "name", x: box.right + 10, y: y + 4 }, row.value.toFixed(2)),
      );
    });
    picture.append(
      svg("text", { x: (box.left + box.right) / 2, y: bottom + 34, "text-anchor": "middle" }, xName),
    );
    return picture;
  });
}
