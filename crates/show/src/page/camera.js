// The camera: an orbit around what is looked at, moved by pointer, wheel, fingers and keys.

const FIRST = { azimuth: -1.28, elevation: 0.2, zoom: 1, pan: [0, 0, 0] };
/** Half the height of the picture at distance 1. */
const TANGENT = 0.36;

class Camera {
  constructor(canvas, changed) {
    this.changed = changed;
    this.fingers = new Map();
    this.taken = () => false; // whether a pointer that was pressed is somebody else's
    this.reset();
    canvas.addEventListener("pointerdown", (event) => {
      if (this.taken(event)) return;
      canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (event) => this.fingers.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004));
      },
      { passive: false },
    );
  }

  reset() {
    Object.assign(this, FIRST, { pan: [...FIRST.pan] });
    this.changed();
  }

  orbitBy(azimuth, elevation) {
    this.azimuth += azimuth;
    // Not below the floor, not over the top.
    this.elevation = Math.max(0.015, Math.min(1.5, this.elevation + elevation));
    this.changed();
  }

  zoomBy(factor) {
    this.zoom = Math.max(0.12, Math.min(8, this.zoom * factor));
    this.changed();
  }

  panBy(x, y) {
    const [c, s] = [Math.cos(this.azimuth), Math.sin(this.azimuth)];
    this.pan = [this.pan[0] - s * x, this.pan[1] + c * x, this.pan[2] + y];
    this.changed();
  }

  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    const others = [...this.fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.fingers.set(event.pointerId, now);
    if (others.length) {
      const spread = (at) => Math.hypot(at[0] - others[0][0], at[1] - others[0][1]) || 1;
      this.zoomBy(spread(before) / spread(now));
    } else if (event.buttons & 2 || event.shiftKey) {
      this.panBy(-dx * 0.004 * this.zoom, dy * 0.004 * this.zoom);
    } else {
      this.orbitBy(-dx * 0.007, dy * 0.006);
    }
  }

  /** Where the camera is, for a centre, the size of what is looked at, and a picture's aspect. */
  place(centre, reach, aspect) {
    const distance = ((reach * this.zoom) / TANGENT) * Math.max(1, 1 / aspect);
    const target = centre.map((x, i) => x + this.pan[i] * reach);
    const flat = Math.cos(this.elevation);
    const direction = [
      flat * Math.cos(this.azimuth),
      flat * Math.sin(this.azimuth),
      Math.sin(this.elevation),
    ];
    return { eye: target.map((x, i) => x + direction[i] * distance), target, tangent: TANGENT };
  }
}
