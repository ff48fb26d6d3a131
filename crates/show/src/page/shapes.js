// Triangles of MuJoCo's shapes: {points, normals, faces}.

/**
 * A profile turned about z. Its points are [radius, z, normal outward, normal along z]; two at the
 * same place make an edge.
 */
function turned(profile, around = 40) {
  const points = [];
  const normals = [];
  const faces = [];
  profile.forEach(([radius, z, outward, along], row) => {
    for (let i = 0; i <= around; i++) {
      const [c, s] = [Math.cos((2 * Math.PI * i) / around), Math.sin((2 * Math.PI * i) / around)];
      points.push(radius * c, radius * s, z);
      normals.push(outward * c, outward * s, along);
      if (row && i < around) {
        const [a, b] = [(row - 1) * (around + 1) + i, row * (around + 1) + i];
        faces.push(a, b, a + 1, a + 1, b, b + 1);
      }
    }
  });
  return { points, normals, faces };
}

/** A quarter or half circle as a profile, from one angle above the equator down to another. */
function arc(radius, from, to, height, steps) {
  return Array.from({ length: steps + 1 }, (_, i) => {
    const angle = from + ((to - from) * i) / steps;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    return [radius * c, height + radius * s, c, s];
  });
}

function ellipsoid([a, b, c]) {
  const shape = turned(arc(1, Math.PI / 2, -Math.PI / 2, 0, 24));
  const size = [a, b, c];
  shape.points = shape.points.map((x, i) => x * size[i % 3]);
  for (let i = 0; i < shape.normals.length; i += 3) {
    unit([0, 1, 2].map((k) => shape.normals[i + k] / size[k])).forEach((x, k) => (shape.normals[i + k] = x));
  }
  return shape;
}

function capsule([radius, half]) {
  const quarter = Math.PI / 2;
  return turned([...arc(radius, quarter, 0, half, 12), ...arc(radius, 0, -quarter, -half, 12)]);
}

function cylinder([radius, half]) {
  return turned([
    [0, half, 0, 1],
    [radius, half, 0, 1],
    [radius, half, 1, 0],
    [radius, -half, 1, 0],
    [radius, -half, 0, -1],
    [0, -half, 0, -1],
  ]);
}

function box(size) {
  const points = [];
  const normals = [];
  const faces = [];
  for (let axis = 0; axis < 3; axis++)
    for (const side of [-1, 1]) {
      const first = points.length / 3;
      for (const [u, v] of [
        [-1, -1],
        [1, -1],
        [1, 1],
        [-1, 1],
      ]) {
        const corner = [0, 0, 0];
        corner[axis] = side * size[axis];
        corner[(axis + 1) % 3] = side * u * size[(axis + 1) % 3];
        corner[(axis + 2) % 3] = v * size[(axis + 2) % 3];
        points.push(...corner);
        normals.push(...[0, 1, 2].map((i) => (i === axis ? side : 0)));
      }
      faces.push(first, first + 1, first + 2, first, first + 2, first + 3);
    }
  return { points, normals, faces };
}

/** A square in the plane z = 0; an infinite plane is drawn as one that is large. */
function plane([x, y]) {
  const [a, b] = [x || 1, y || 1];
  return {
    points: [-a, -b, 0, a, -b, 0, a, b, 0, -a, b, 0],
    normals: [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1],
    faces: [0, 1, 2, 0, 2, 3],
  };
}

/** Corners with one normal where faces meet at less than this angle, and with an edge elsewhere. */
const SMOOTH = Math.cos((38 * Math.PI) / 180);

function mesh({ vertices, faces: { values: corners } }) {
  const at = vertices.values;
  const point = (i) => [at[3 * i], at[3 * i + 1], at[3 * i + 2]];
  const count = corners.length / 3;
  const areas = []; // normals of faces, as long as twice their area
  const around = Array.from({ length: vertices.length }, () => []);
  for (let face = 0; face < count; face++) {
    const [a, b, c] = [0, 1, 2].map((k) => point(corners[face * 3 + k]));
    areas.push(cross(sub(b, a), sub(c, a)));
    for (let k = 0; k < 3; k++) around[corners[face * 3 + k]].push(face);
  }
  const directions = areas.map(unit);
  const points = [];
  const normals = [];
  for (let face = 0; face < count; face++)
    for (let k = 0; k < 3; k++) {
      const corner = corners[face * 3 + k];
      const sum = [0, 0, 0];
      for (const other of around[corner]) {
        if (dot(directions[face], directions[other]) < SMOOTH) continue;
        for (let i = 0; i < 3; i++) sum[i] += areas[other][i];
      }
      points.push(...point(corner));
      normals.push(...unit(sum));
    }
  return { points, normals, faces: points.map((_, i) => i).slice(0, count * 3) };
}

function field({ size: [x, y, top], rows, columns }, heights) {
  const points = [];
  const normals = [];
  const faces = [];
  const height = (row, column) =>
    top *
    heights[Math.max(0, Math.min(rows - 1, row)) * columns + Math.max(0, Math.min(columns - 1, column))];
  const [dx, dy] = [(2 * x) / (columns - 1), (2 * y) / (rows - 1)];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      points.push(column * dx - x, row * dy - y, height(row, column));
      const slope = (a, b, d) => (height(...a) - height(...b)) / (2 * d);
      const alongX = slope([row, column + 1], [row, column - 1], dx);
      const alongY = slope([row + 1, column], [row - 1, column], dy);
      normals.push(...unit([-alongX, -alongY, 1]));
      if (row && column) {
        const [c, d] = [row * columns + column - 1, row * columns + column];
        const [a, b] = [c - columns, d - columns];
        faces.push(a, b, d, a, d, c);
      }
    }
  return { points, normals, faces };
}

/** The triangles of a geom of a scene, whose meshes and fields have been read. */
function shape(geom, meshes, fields) {
  switch (geom.kind) {
    case "plane":
      return plane(geom.size);
    case "ellipsoid":
      return ellipsoid(geom.size);
    case "capsule":
      return capsule(geom.size);
    case "cylinder":
      return cylinder(geom.size);
    case "box":
      return box(geom.size);
    case "mesh":
      return mesh(meshes[geom.size[0]]);
    default:
      return fields[geom.size[0]];
  }
}
