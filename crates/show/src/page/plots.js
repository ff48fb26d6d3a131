// Plots over time on 2D canvases. All have the same time axis, and the cursor at the slider's time.

const GUTTER = 92;
const RIGHT = 8;
const AXIS = 20;

/** A colour of the style sheet as "rgb(...)" for canvases. */
function css(name) {
  const probe = document.getElementById("probe");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** A colour of the style sheet as three numbers in [0, 1]. */
const rgb = (name) =>
  css(name)
    .match(/[\d.]+/g)
    .slice(0, 3)
    .map((x) => x / 255);

const digits = (value) => {
  const size = Math.abs(value);
  const places = size >= 1000 ? 0 : size >= 100 ? 1 : 2;
  // Not "-0.00".
  return (Number(value.toFixed(places)) || 0)
    .toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places })
    .replace("-", "−");
};

/** Round tick values that cover a range. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power;
  const all = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) all.push(at * step || 0);
  return all;
}

class Plot {
  /** `seek` is called with a time that was pointed at. */
  constructor(figure, height, seek) {
    this.figure = figure;
    this.height = height;
    this.values = figure.querySelector(".values");
    this.of = figure.querySelector(".of");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    figure.append(this.canvas);
    this.still = document.createElement("canvas"); // all but the cursor
    const point = (event) => {
      const x = event.clientX - this.canvas.getBoundingClientRect().left;
      seek(Math.max(0, Math.min(1, (x - GUTTER) / (this.width - GUTTER - RIGHT))) * this.duration);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && point(event));
  }

  /** Draws everything but the cursor; `paint` draws into a context of `width` x `bottom`. */
  prepare(duration, height, paint) {
    this.duration = duration || 1;
    this.height = height;
    this.paint = paint;
    this.canvas.style.height = `${height}px`;
    this.width = this.canvas.clientWidth;
    const ratio = Math.min(devicePixelRatio || 1, 3);
    for (const canvas of [this.canvas, this.still]) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = this.still.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "11px system-ui, sans-serif";
    this.bottom = height - AXIS;
    context.fillStyle = css("--quiet");
    context.textAlign = "center";
    for (const time of ticks(0, this.duration, Math.max(2, (this.width - GUTTER) / 90))) {
      context.textAlign = this.x(time) > this.width - 20 ? "right" : "center";
      context.fillText(`${Number(time.toFixed(3))} s`, this.x(time), height - 5);
    }
    paint(context, this);
    this.ratio = ratio;
  }

  x(time) {
    return GUTTER + (time / this.duration) * (this.width - GUTTER - RIGHT);
  }

  /** Draws the cursor, and the values at it: {name, colour, value, unit}. */
  show(time, values) {
    if (!this.still.width) return; // not laid out
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.still, 0, 0);
    context.scale(this.ratio, this.ratio);
    context.fillStyle = css("--card");
    context.fillRect(this.x(time) - 2, 2, 4, this.bottom - 2);
    context.fillStyle = css("--ink");
    context.fillRect(this.x(time) - 0.75, 2, 1.5, this.bottom - 2);
    this.values.replaceChildren(
      ...values.map(({ name, colour, value, unit = "" }) => {
        const entry = document.createElement("span");
        if (colour) {
          const dot = document.createElement("span");
          dot.className = "dot";
          dot.style.color = colour;
          entry.append(dot);
        }
        entry.append(`${name} ${digits(value)}${unit}`);
        return entry;
      }),
    );
  }
}

/** Paints lines: {colour, dt, values, first}. */
function lines(series) {
  return (context, plot) => {
    const all = series.flatMap(({ values }) => [
      Math.min(...chunks(values)[0]),
      Math.max(...chunks(values)[1]),
    ]);
    let [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
    const margin = (high - low) * 0.06 || 1;
    [low, high] = [low - margin, high + margin];
    const y = (value) => plot.bottom - 4 - ((value - low) / (high - low)) * (plot.bottom - 10);
    context.textAlign = "right";
    for (const value of ticks(low, high, plot.bottom / 34)) {
      context.fillStyle = css("--line");
      context.fillRect(GUTTER, y(value) - 0.5, plot.width - GUTTER - RIGHT, 1);
      context.fillStyle = css("--quiet");
      context.fillText(value.toLocaleString("en", { maximumFractionDigits: 4 }), GUTTER - 8, y(value) + 4);
    }
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    for (const { colour, dt, values, first } of series) {
      context.strokeStyle = css(colour);
      context.beginPath();
      values.forEach((value, i) => context.lineTo(plot.x((i + first) * dt), y(value)));
      context.stroke();
    }
  };
}

/** Smallest and largest of parts of a list, which may be too long for one call. */
function chunks(values) {
  const [low, high] = [[], []];
  for (let i = 0; i < values.length; i += 4096) {
    const part = values.subarray(i, i + 4096);
    low.push(Math.min(...part));
    high.push(Math.max(...part));
  }
  return [low.length ? low : [0], high.length ? high : [0]];
}

/** Paints a row of colours over time for each name; `colour` maps a value in [-1, 1] to RGBA. */
function rows(names, dt, count, value, colour) {
  return (context, plot) => {
    if (!names.length || !count) {
      context.fillStyle = css("--quiet");
      context.textAlign = "center";
      context.fillText("none", (GUTTER + plot.width) / 2, plot.bottom / 2);
      return;
    }
    const height = Math.min(30, plot.bottom / names.length);
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [Math.max(1, count), names.length];
    const paint = picture.getContext("2d");
    const pixels = paint.createImageData(picture.width, picture.height);
    for (let row = 0; row < names.length; row++)
      for (let t = 0; t < count; t++) pixels.data.set(colour(value(t, row)), (row * picture.width + t) * 4);
    paint.putImageData(pixels, 0, 0);
    // Row by row, so that a smoothed picture has no mixture of two rows.
    const width = plot.x(count * dt) - GUTTER;
    context.imageSmoothingEnabled = count > width;
    context.imageSmoothingQuality = "high";
    for (let row = 0; row < names.length; row++)
      context.drawImage(picture, 0, row, count, 1, GUTTER, row * height, width, height);
    context.textAlign = "right";
    names.forEach((name, row) => {
      if (row) {
        context.fillStyle = css("--card");
        context.fillRect(GUTTER, row * height - 0.5, plot.width - GUTTER, 1);
      }
      context.fillStyle = css("--quiet");
      if (height >= 9 || row % 2 === 0) {
        const text = name.length > 15 ? `${name.slice(0, 14)}…` : name;
        context.fillText(text, GUTTER - 8, (row + 0.5) * height + 4);
      }
    });
  };
}
