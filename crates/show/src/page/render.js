// Drawing with WebGL2: shapes under a sky, with a shadow map.

const SKY = `
uniform vec3 horizon, zenith;
vec3 sky(vec3 direction) {
  return mix(horizon, zenith, smoothstep(0.0, 0.75, direction.z));
}
vec3 shown(vec3 light) {
  return pow(clamp(light, 0.0, 1.0), vec3(1.0 / 2.2));
}`;

const VERTEX = `#version 300 es
uniform mat4 eye, light, model;
layout(location = 0) in vec3 point;
layout(location = 1) in vec3 normal;
out vec3 world, local, facing;
out vec4 lit;
void main() {
  local = point;
  vec4 place = model * vec4(point, 1.0);
  world = place.xyz;
  facing = mat3(model) * normal;
  lit = light * place;
  gl_Position = eye * place;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler2DShadow;
uniform vec3 camera, sun;
uniform vec4 colour;
uniform sampler2DShadow shadows;
uniform float reach, dark;
uniform bool floored;
uniform vec3 tiles[3];
uniform vec3 tiling; // size of a tile, and where the plane's centre is on it
uniform vec2 spread; // what the plane is scaled by
in vec3 world, local, facing;
in vec4 lit;
out vec4 painted;
${SKY}
/** The share of the sun's light that arrives: the mean over a small disc of the map. */
float sunlight(vec3 normal) {
  vec3 at = lit.xyz * 0.5 + 0.5;
  if (any(lessThan(at, vec3(0.0))) || any(greaterThan(at, vec3(1.0)))) return 1.0;
  float slope = 1.0 - max(dot(normal, sun), 0.0);
  float sum = 0.0;
  for (int i = -2; i <= 2; i++)
    for (int j = -2; j <= 2; j++)
      sum += texture(shadows, vec3(at.xy + vec2(i, j) * 0.0009, at.z - 0.0012 - 0.003 * slope));
  // Softly towards the edge of the map.
  vec2 edge = smoothstep(vec2(1.0), vec2(0.85), abs(at.xy * 2.0 - 1.0));
  return mix(1.0, sum / 25.0, edge.x * edge.y);
}
/** Squares and lines, each averaged over the pixel so that they do not flicker. */
vec3 tiled(vec2 at) {
  vec2 wide = max(fwidth(at), 1e-5);
  vec2 square = 2.0 * (abs(fract((at - 0.5 * wide) * 0.5) - 0.5) - abs(fract((at + 0.5 * wide) * 0.5) - 0.5)) / wide;
  float odd = 0.5 - 0.5 * square.x * square.y;
  vec2 near = abs(fract(at / 5.0 + 0.5) - 0.5) * 5.0;
  vec2 line = clamp(1.2 - near / wide, 0.0, 1.0) * clamp(0.35 / wide, 0.0, 1.0);
  return mix(mix(tiles[0], tiles[1], odd), tiles[2], max(line.x, line.y));
}
void main() {
  vec3 away = world - camera;
  float distance = length(away);
  vec3 view = away / distance;
  vec3 normal = normalize(facing);
  if (dot(normal, view) > 0.0) normal = -normal;
  float direct = sunlight(normal);
  vec3 light;
  if (floored) {
    light = tiled((local.xy * spread + tiling.yz) / tiling.x) * mix(dark, 1.0, direct);
    float far = distance / (reach * 9.0);
    light = mix(sky(view), light, exp(-far * far));
  } else {
    float towards = max(dot(normal, sun), 0.0);
    vec3 around = mix(vec3(0.30, 0.28, 0.27), vec3(0.52, 0.56, 0.62), normal.z * 0.5 + 0.5);
    light = colour.rgb * (around + vec3(0.78, 0.74, 0.68) * towards * direct);
    vec3 half_way = normalize(sun - view);
    light += 0.10 * pow(max(dot(normal, half_way), 0.0), 40.0) * direct;
    light += 0.10 * pow(1.0 - max(dot(normal, -view), 0.0), 4.0) * sky(reflect(view, normal));
  }
  painted = vec4(shown(light), colour.a);
}`;

const SHADOW = `#version 300 es
uniform mat4 light, model;
layout(location = 0) in vec3 point;
void main() { gl_Position = light * model * vec4(point, 1.0); }`;

const NOTHING = `#version 300 es
precision highp float;
void main() {}`;

const BACKDROP = `#version 300 es
out vec2 at;
void main() {
  at = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(at, 0.9999, 1.0);
}`;

const BACKGROUND = `#version 300 es
precision highp float;
uniform vec3 right, top, back;
uniform vec2 tangent;
in vec2 at;
out vec4 painted;
${SKY}
void main() {
  painted = vec4(shown(sky(normalize(at.x * tangent.x * right + at.y * tangent.y * top - back))), 1.0);
}`;

/** Width of the shadow map. */
const MAP = 2048;
const SUN = unit([-0.45, -0.55, 1.15]);
/** An infinite plane is drawn this many times as wide as what is looked at. */
const INFINITE = 60;

/** Planes collide everywhere, whatever their size; large ones are floors that robots run off. */
const LARGE = 5;

/** A colour as the eye sees it, in amounts of light. */
const linear = (rgb) => rgb.map((x) => x ** 2.2);

class Renderer {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
    if (!gl) throw new Error("this browser has no WebGL2");
    this.canvas = canvas;
    this.gl = gl;
    this.solid = this.program(VERTEX, FRAGMENT);
    this.shadow = this.program(SHADOW, NOTHING);
    this.backdrop = this.program(BACKDROP, BACKGROUND);
    this.map = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.map);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.DEPTH_COMPONENT24, MAP, MAP);
    for (const [name, value] of [
      [gl.TEXTURE_MIN_FILTER, gl.LINEAR],
      [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
      [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE],
      [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE],
      [gl.TEXTURE_COMPARE_MODE, gl.COMPARE_REF_TO_TEXTURE],
      [gl.TEXTURE_COMPARE_FUNC, gl.LEQUAL],
    ])
      gl.texParameteri(gl.TEXTURE_2D, name, value);
    this.target = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, this.map, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.SCISSOR_TEST);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Compiles a program; its uniforms are found by name. */
  program(vertex, fragment) {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, vertex],
      [gl.FRAGMENT_SHADER, fragment],
    ]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    const at = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const { name } = gl.getActiveUniform(program, i);
      at[name.replace("[0]", "")] = gl.getUniformLocation(program, name);
    }
    return { program, at };
  }

  /** Uploads a scene's shapes. */
  async parts(scene) {
    const meshes = await Promise.all(scene.meshes.map(unpack));
    const read = async (one) => field(one, (await unpack(one)).elevations.values);
    const fields = await Promise.all(scene.fields.map(read));
    const parts = scene.geoms.map((geom) => ({
      body: geom.body,
      size: geom.size,
      local: placed(geom.quat, geom.pos),
      colour: [...linear(geom.rgba.slice(0, 3)), geom.rgba[3]],
      infinite: geom.kind === "plane" ? geom.size.map((half) => half === 0 || half >= LARGE) : null,
      ...this.upload(shape(geom, meshes, fields)),
    }));
    // What is transparent is drawn over the rest.
    return parts.sort((a, b) => (a.colour[3] < 1) - (b.colour[3] < 1));
  }

  upload({ points, normals, faces }) {
    const gl = this.gl;
    const vertices = gl.createVertexArray();
    gl.bindVertexArray(vertices);
    [points, normals].forEach((values, place) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(values), gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
    });
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(faces), gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    let radius = 0;
    const bounds = { low: [Infinity, Infinity, Infinity], high: [-Infinity, -Infinity, -Infinity] };
    for (let i = 0; i < points.length; i += 3) {
      radius = Math.max(radius, Math.hypot(points[i], points[i + 1], points[i + 2]));
      for (let k = 0; k < 3; k++) {
        bounds.low[k] = Math.min(bounds.low[k], points[i + k]);
        bounds.high[k] = Math.max(bounds.high[k], points[i + k]);
      }
    }
    return { vertices, count: faces.length, radius, bounds };
  }

  /** Makes the drawing as large as the screen shows it, and colours it. */
  begin(colours) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const { clientWidth, clientHeight } = this.canvas;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height)
      Object.assign(this.canvas, { width, height });
    this.ratio = ratio;
    this.colours = colours;
  }

  /**
   * Draws a robot into a part of the canvas, given in pixels of the page: its parts in a pose, seen
   * by a camera {eye, target, tangent}; `reach` is the size of what is looked at.
   */
  draw({ left, top, width, height }, parts, pose, camera, reach) {
    const gl = this.gl;
    const models = parts.map((part) => {
      const place = placed(
        pose.orientations.subarray(part.body * 4, part.body * 4 + 4),
        pose.positions.subarray(part.body * 3, part.body * 3 + 3),
      );
      return times(place, part.local);
    });

    // Shadows: parallel rays of the sun over what is looked at.
    const half = reach * 2.2;
    const eye = camera.target.map((x, i) => x + SUN[i] * half * 2);
    const light = times(parallel(half, 0, half * 4), look(eye, camera.target, [0, 0, 1]).view);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.viewport(0, 0, MAP, MAP);
    gl.scissor(0, 0, MAP, MAP);
    gl.clear(gl.DEPTH_BUFFER_BIT);
    gl.disable(gl.BLEND);
    gl.useProgram(this.shadow.program);
    gl.uniformMatrix4fv(this.shadow.at.light, false, light);
    parts.forEach((part, i) => {
      if (part.infinite || part.colour[3] < 1) return;
      gl.uniformMatrix4fv(this.shadow.at.model, false, models[i]);
      gl.bindVertexArray(part.vertices);
      gl.drawElements(gl.TRIANGLES, part.count, gl.UNSIGNED_INT, 0);
    });
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);

    const r = this.ratio;
    const rect = [left * r, this.canvas.height - (top + height) * r, width * r, height * r].map(Math.round);
    gl.viewport(...rect);
    gl.scissor(...rect);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const aspect = width / height;
    const { view, right, top: up, back } = look(camera.eye, camera.target, [0, 0, 1]);
    const distance = Math.hypot(...sub(camera.eye, camera.target));
    const lens = perspective(
      camera.tangent,
      aspect,
      Math.max(distance / 100, reach / 200),
      reach * INFINITE * 3,
    );
    const { horizon, zenith, floor, tile, mark, dark } = this.colours;

    let { program, at } = this.backdrop;
    gl.useProgram(program);
    gl.depthMask(false);
    gl.uniform3fv(at.horizon, horizon);
    gl.uniform3fv(at.zenith, zenith);
    gl.uniform3fv(at.right, right);
    gl.uniform3fv(at.top, up);
    gl.uniform3fv(at.back, back);
    gl.uniform2f(at.tangent, camera.tangent * aspect, camera.tangent);
    gl.bindVertexArray(null);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.depthMask(true);

    ({ program, at } = this.solid);
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.eye, false, times(lens, view));
    gl.uniformMatrix4fv(at.light, false, light);
    gl.uniform3fv(at.camera, camera.eye);
    gl.uniform3fv(at.sun, SUN);
    gl.uniform3fv(at.horizon, horizon);
    gl.uniform3fv(at.zenith, zenith);
    gl.uniform3fv(at.tiles, [...floor, ...tile, ...mark]);
    gl.uniform1f(at.reach, reach);
    gl.uniform1f(at.dark, dark);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.map);
    gl.uniform1i(at.shadows, 0);
    const size = reach < 0.6 ? 0.1 : reach < 6 ? 1 : 10;
    parts.forEach((part, i) => {
      let model = models[i];
      if (part.infinite) {
        const plane = this.spread(part, model, camera.target, reach);
        model = plane.model;
        gl.uniform3f(at.tiling, size, ...plane.offset);
        gl.uniform2f(at.spread, ...plane.scale);
      }
      (part.colour[3] < 1 ? gl.enable : gl.disable).call(gl, gl.BLEND);
      gl.uniform1i(at.floored, part.infinite ? 1 : 0);
      gl.uniform4fv(at.colour, part.colour);
      gl.uniformMatrix4fv(at.model, false, model);
      gl.bindVertexArray(part.vertices);
      gl.drawElements(gl.TRIANGLES, part.count, gl.UNSIGNED_INT, 0);
    });
  }

  /** The matrix of a plane, below the camera's target where it is infinite, and where its centre is on it. */
  spread({ infinite, size }, model, target, reach) {
    const moved = new Float32Array(model);
    const offset = [0, 0];
    const scale = [1, 1];
    infinite.forEach((endless, axis) => {
      if (!endless) return;
      const direction = [0, 1, 2].map((i) => model[axis * 4 + i]);
      offset[axis] = dot(sub(target, [model[12], model[13], model[14]]), direction);
      const half = size[axis] || 1;
      scale[axis] = (reach * INFINITE) / half;
      for (let i = 0; i < 3; i++) {
        moved[12 + i] += direction[i] * offset[axis];
        moved[axis * 4 + i] *= scale[axis];
      }
    });
    return { model: moved, offset, scale };
  }
}
