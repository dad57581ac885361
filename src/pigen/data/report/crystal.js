"use strict";
// A crystal drawn on a 2-D canvas: atoms and pieces of the cell's edges, painted back to front.

// The cell (rows a, b, c in Å) and atoms of a CIF as PIGEN writes it: P 1, one atom a line.
function parseCif(text) {
  const lines = text.split("\n");
  const cell = {};
  const atoms = [];
  for (const line of lines) {
    const words = line.trim().split(/\s+/);
    if (words[0].startsWith("_cell_")) cell[words[0].slice(6)] = Number(words[1]);
    else if (words.length === 6 && !Number.isNaN(Number(words[2])))
      atoms.push({ symbol: words[0], frac: words.slice(2, 5).map(Number) });
  }
  const { length_a: a, length_b: b, length_c: c } = cell;
  const [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map(
    (name) => (cell["angle_" + name] * Math.PI) / 180);
  const cx = c * Math.cos(beta);
  const cy = (c * (Math.cos(alpha) - Math.cos(beta) * Math.cos(gamma))) / Math.sin(gamma);
  const lattice = [
    [a, 0, 0],
    [b * Math.cos(gamma), b * Math.sin(gamma), 0],
    [cx, cy, Math.sqrt(Math.max(c * c - cx * cx - cy * cy, 0))],
  ];
  return { lattice, atoms };
}

function cartesian(frac, lattice) {
  return [0, 1, 2].map((k) =>
    frac[0] * lattice[0][k] + frac[1] * lattice[1][k] + frac[2] * lattice[2][k]);
}

// What is painted, about the middle of the cell: atoms, with their images where they lie on a face
// of the cell, and the twelve edges cut in pieces, so that atoms can hide a part of one.
function sceneOf(crystal, looks) {
  const onFace = 0.02;
  const scale = 0.42; // of the atomic radius: a cell of touching spheres hides what is inside
  const pieces = 24;
  const middle = cartesian([0.5, 0.5, 0.5], crystal.lattice);
  const place = (frac) => cartesian(frac, crystal.lattice).map((x, k) => x - middle[k]);
  const items = [];
  for (const atom of crystal.atoms) {
    const look = looks[atom.symbol] || { colour: "#ff1493", radius: 1.5 };
    const choices = atom.frac.map((x) => (x < onFace ? [x, x + 1] : x > 1 - onFace ? [x, x - 1] : [x]));
    for (const x of choices[0]) for (const y of choices[1]) for (const z of choices[2])
      items.push({ at: place([x, y, z]), radius: scale * look.radius, symbol: atom.symbol, colour: look.colour });
  }
  for (let axis = 0; axis < 3; axis++)
    for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]])
      for (let i = 0; i < pieces; i++) {
        const [from, to] = [i / pieces, (i + 1) / pieces].map((along) => {
          const frac = [0, 0, 0];
          frac[axis] = along;
          frac[(axis + 1) % 3] = u;
          frac[(axis + 2) % 3] = v;
          return place(frac);
        });
        const at = from.map((x, k) => (x + to[k]) / 2);
        const inside = items.some((atom) =>
          atom.radius && Math.hypot(...at.map((x, k) => x - atom.at[k])) < atom.radius);
        if (!inside) items.push({ at, from, to });
      }
  ["a", "b", "c"].forEach((name, axis) => {
    const frac = [0, 0, 0];
    frac[axis] = 1;
    const end = place(frac);
    const start = place([0, 0, 0]);
    items.push({ at: end.map((x, k) => x + 0.08 * (x - start[k])), name });
  });
  const solid = items.filter((item) => !item.name);
  const reach = Math.max(...solid.map((item) => Math.hypot(...item.at) + (item.radius || 0)));
  return { items, reach };
}

function turned(matrix, about, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const turn = about === "x" ? [[1, 0, 0], [0, c, -s], [0, s, c]] : [[c, 0, s], [0, 1, 0], [-s, 0, c]];
  return turn.map((row) => [0, 1, 2].map((k) =>
    row[0] * matrix[0][k] + row[1] * matrix[1][k] + row[2] * matrix[2][k]));
}

class CrystalView {
  constructor(canvas) {
    this.canvas = canvas;
    this.scene = null;
    this.zoom = 1;
    this.rotating = false;
    this.dragging = null;
    this.last = 0;
    this.matrix = turned(turned([[1, 0, 0], [0, 0, 1], [0, -1, 0]], "y", -0.45), "x", 0.3);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.dragging = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.dragging) return;
      const [x, y] = this.dragging;
      this.dragging = [event.clientX, event.clientY];
      this.turn((event.clientX - x) / 120, (event.clientY - y) / 120);
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, () => { this.dragging = null; });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
      const zooms = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (turns[event.key]) this.turn(...turns[event.key]);
      else if (zooms[event.key]) this.zoom = Math.min(4, Math.max(0.3, this.zoom * zooms[event.key]));
      else return;
      event.preventDefault();
      this.paint();
    });
    new ResizeObserver(() => this.paint()).observe(canvas);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.paint());
  }

  show(scene) {
    this.scene = scene;
    this.paint();
  }

  turn(aboutY, aboutX) {
    this.matrix = turned(turned(this.matrix, "y", aboutY), "x", aboutX);
    this.paint();
  }

  rotate(on) {
    const start = on && !this.rotating;
    this.rotating = on;
    if (start) requestAnimationFrame((now) => { this.last = now; this.step(now); });
  }

  step(now) {
    if (!this.rotating) return;
    const seconds = Math.min((now - this.last) / 1000, 0.1);
    this.last = now;
    if (!this.dragging) this.turn(0.5 * seconds, 0);
    requestAnimationFrame((next) => this.step(next));
  }

  paint() {
    const { canvas, scene } = this;
    const width = canvas.clientWidth;
    if (!scene || !width) return;
    const ratio = window.devicePixelRatio || 1;
    const size = Math.round(width * ratio);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, width);
    const line = getComputedStyle(canvas).color;
    const eye = 4 * scene.reach; // distance: a weak perspective
    const scale = (0.45 * width * this.zoom) / scene.reach;
    const project = (at) => {
      const [x, y, z] = this.matrix.map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2]);
      const near = eye / (eye - z);
      return { x: width / 2 + scale * near * x, y: width / 2 - scale * near * y, z, near };
    };
    const seen = scene.items.map((item) => [item, project(item.at)]).sort((p, q) => p[1].z - q[1].z);
    for (const [item, at] of seen) {
      if (item.from) paintEdge(context, project(item.from), project(item.to), line);
      else if (item.name) paintText(context, item.name, at, 14, line);
      else paintAtom(context, item, at, scale * at.near * item.radius);
    }
  }
}

function paintEdge(context, from, to, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1.4 * from.near;
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x, to.y);
  context.stroke();
}

function paintText(context, text, at, size, colour) {
  context.fillStyle = colour;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, at.x, at.y);
}

function paintAtom(context, item, at, radius) {
  const channels = [1, 3, 5].map((k) => parseInt(item.colour.slice(k, k + 2), 16));
  const mixed = (towards, share) =>
    `rgb(${channels.map((x) => Math.round(x + share * (towards - x))).join(",")})`;
  const light = context.createRadialGradient(
    at.x - 0.35 * radius, at.y - 0.35 * radius, 0.1 * radius, at.x, at.y, radius);
  light.addColorStop(0, mixed(255, 0.55));
  light.addColorStop(0.5, item.colour);
  light.addColorStop(1, mixed(0, 0.35));
  context.fillStyle = light;
  context.strokeStyle = mixed(0, 0.6);
  context.lineWidth = 1;
  context.beginPath();
  context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
  if (radius < 7) return;
  const luminance = 0.3 * channels[0] + 0.59 * channels[1] + 0.11 * channels[2];
  paintText(context, item.symbol, at, Math.min(0.85 * radius, 16), luminance > 120 ? "#000" : "#fff");
}
