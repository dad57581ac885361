"use strict";
// The page: the list sorts and filters, a row opens its structure, structures and charts are saved.
(() => {
  const { entries, settings } = JSON.parse(document.getElementById("structures").textContent);
  const find = (id) => document.getElementById(id);
  const list = find("list");
  const body = list.tBodies[0];
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // -- sorting ----------------------------------------------------------------------------------
  const compare = new Intl.Collator("en", { numeric: true }).compare;

  function sortBy(column, descending) {
    const keyed = [...body.rows].map((row) => [row, row.cells[column].dataset.key]);
    const numeric = keyed.every(([, key]) => key === undefined || !Number.isNaN(Number(key)));
    keyed.sort(([, p], [, q]) => {
      if (p === undefined || q === undefined) // the unknown come last
        return (p === undefined) - (q === undefined);
      const order = numeric ? p - q : compare(p, q);
      return descending ? -order : order;
    });
    body.append(...keyed.map(([row]) => row));
  }

  for (const button of all(".sort", list.tHead))
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of all("[aria-sort]", list.tHead)) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(heading.cellIndex, descending);
    });

  // -- elements: one click asks for an element, a second leaves it out, a third forgets it --------
  const asked = new Map();

  function sift() {
    for (const row of body.rows) {
      const has = new Set(row.dataset.elements.split(" "));
      row.hidden = [...asked].some(([symbol, wanted]) => has.has(symbol) !== wanted);
    }
    for (const card of all(".card"))
      card.hidden = body.querySelector(`[data-entry="${card.dataset.entry}"]`).hidden;
    tell();
    plot();
  }

  for (const button of all("#elements button"))
    button.addEventListener("click", () => {
      const symbol = button.textContent;
      const next = { undefined: true, true: false, false: undefined }[asked.get(symbol)];
      if (next === undefined) asked.delete(symbol);
      else asked.set(symbol, next);
      button.dataset.asked = next === undefined ? "" : next ? "with" : "without";
      button.setAttribute("aria-label", `${button.dataset.asked} ${symbol}`.trim());
      sift();
    });

  // -- files ------------------------------------------------------------------------------------
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  const saveCif = (view) => save(new Blob([view.cif], { type: "chemical/x-cif" }), view.file);
  const picked = () => {
    const shown = [...body.rows].filter((row) => !row.hidden);
    const ticked = shown.filter((row) => row.querySelector("input").checked);
    return ticked.length ? ticked : shown;
  };

  function tell() {
    const rows = picked().length;
    find("save-all").textContent = `Download these ${rows}`;
    find("save-all").disabled = !rows;
  }

  function crc32(bytes) {
    let crc = ~0;
    for (const byte of bytes) {
      crc ^= byte;
      for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc >>> 0;
  }

  // An archive of files as they are, by PKWARE's APPNOTE 6.3: local headers, directory, its end.
  function zip(files) {
    const parts = [];
    const directory = [];
    let offset = 0;
    for (const [name, text] of files) {
      const [label, data] = [name, text].map((one) => new TextEncoder().encode(one));
      const head = new DataView(new ArrayBuffer(26));
      [[0, 20], [2, 0x0800], [8, 0x21]].forEach(([at, value]) => head.setUint16(at, value, true));
      head.setUint32(10, crc32(data), true);
      head.setUint32(14, data.length, true);
      head.setUint32(18, data.length, true);
      head.setUint16(22, label.length, true);
      parts.push(new Uint32Array([0x04034b50]), head, label, data);
      const rest = new DataView(new ArrayBuffer(14));
      rest.setUint32(10, offset, true);
      directory.push(new Uint32Array([0x02014b50]), new Uint16Array([20]), head, rest, label);
      offset += 30 + label.length + data.length;
    }
    const size = directory.reduce((sum, part) => sum + part.byteLength, 0);
    const end = new DataView(new ArrayBuffer(22));
    end.setUint32(0, 0x06054b50, true);
    end.setUint16(8, files.length, true);
    end.setUint16(10, files.length, true);
    end.setUint32(12, size, true);
    end.setUint32(16, offset, true);
    return new Blob([...parts, ...directory, end], { type: "application/zip" });
  }

  find("save-all").addEventListener("click", () => {
    const rows = picked();
    const digits = String(rows.length).length;
    const named = rows.map((row, i) => {
      const view = entries[row.dataset.entry].at(-1); // the relaxed one, where there is one
      return [`${String(i + 1).padStart(digits, "0")}_${view.file}`, view.cif];
    });
    save(zip(named), "structures.zip");
  });

  // A chart with the colours that it has on the page.
  const styles = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font",
    "text-anchor"];
  for (const button of all(".save-chart"))
    button.addEventListener("click", () => {
      const chart = button.parentElement.querySelector("svg");
      const copy = chart.cloneNode(true);
      const page = getComputedStyle(document.body).backgroundColor;
      all("*", chart).forEach((one, i) => {
        const style = getComputedStyle(one);
        const text = styles.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";");
        all("*", copy)[i].setAttribute("style", text);
      });
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      copy.setAttribute("style", `background:${page}`);
      const text = new XMLSerializer().serializeToString(copy);
      save(new Blob([text], { type: "image/svg+xml" }), `${button.dataset.name}.svg`);
    });

  // -- structures -------------------------------------------------------------------------------
  // The library is a widget of notebooks: it is given a model of values, and told of changes.
  let viewer = null;

  function draw(view) {
    if (!viewer) {
      const values = {
        logLevel: "error", atoms: {}, boundary: [], selectedAtomsIndices: [], modelStyle: 1,
        colorBy: "Element", colorType: "JMOL", colorRamp: ["red", "blue"], radiusType: "Covalent",
        materialType: "Standard", atomLabelType: "None", showBondedAtoms: false,
        showHydrogenBonds: false, showOutBoundaryBonds: false, hideLongBonds: true, atomScales: [],
        modelSticks: [], modelPolyhedras: [], volumetricData: null, fermiData: null,
        vectorField: {}, showVectorField: false, guiConfig: {}, currentFrame: 0,
        instancedMeshPrimitive: [], anyMesh: [], text: [], cameraSetting: {}, js_task: {},
        speciesSettings: {}, cellSettings: {}, bondSettings: {}, isoSettings: {}, fermiSettings: {},
        sliceSettings: {}, phonon: {}, highlightSettings: {}, measurementSettings: {},
        animationState: {}, showAtomLegend: false, continuousUpdate: true,
        viewerStyle: { width: "100%", height: "100%" }, ...settings,
      };
      const heard = {};
      viewer = {
        values, heard,
        get: (name) => values[name],
        set: (name, value) => { values[name] = value; },
        save_changes() {},
        on(event, react) { heard[event] = react; },
      };
      Object.assign(values, view.seen, { modelStyle: Number(find("style").value) });
      globalThis.crystalViewer.render({ model: viewer, el: find("stage") });
      return;
    }
    tellViewer(view.seen);
    viewer.heard["change:cameraSetting"](); // fits the structure into the view again
  }

  function tellViewer(changes) {
    for (const [name, value] of Object.entries(changes)) {
      viewer.values[name] = value;
      viewer.heard[`change:${name}`]();
    }
  }

  let chosen = null;

  function choose(row) {
    if (chosen) chosen.classList.remove("chosen");
    chosen = row;
    row.classList.add("chosen");
    mark();
    if (!find("stage")) return;
    find("name").replaceChildren(...row.querySelector(".open").cloneNode(true).childNodes);
    const views = entries[row.dataset.entry];
    const buttons = views.map((view) => {
      const button = document.createElement("button");
      button.textContent = view.label;
      button.addEventListener("click", () => look(view, button));
      return button;
    });
    find("views").replaceChildren(...(views.length > 1 ? buttons : []));
    look(views.at(-1), buttons.at(-1));
  }

  function look(view, button) {
    for (const other of find("views").children)
      other.setAttribute("aria-pressed", other === button);
    draw(view);
    find("cell").textContent = view.parameters;
    find("cif").onclick = () => saveCif(view);
    find("legend").replaceChildren(...Object.entries(view.seen.speciesSettings).map(
      ([symbol, { color }]) => {
        const item = document.createElement("li");
        const dot = document.createElement("span");
        dot.style.background = `rgb(${color.map((x) => Math.round(255 * x))})`;
        const n = view.seen.atoms.symbols.filter((one) => one === symbol).length;
        item.append(dot, `${symbol} × ${n}`);
        return item;
      }));
  }

  // -- map: two columns of the list, a point for each of its rows ----------------------------------
  const map = find("map");
  const [left, right, top, bottom] = [64, 448, 12, 272];
  const axes = all("select", map);
  let points = []; // [row, x, y] in the units of the drawing

  function shape(name, attributes, ...inside) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  }

  // The title of an axis: the symbol with its index, and the unit.
  function titled({ dataset: { symbol, unit } }, attributes) {
    const [first, ...index] = symbol.split("_");
    const low = shape("tspan", { class: "index", dy: 3 }, index.join("_"));
    const after = shape("tspan", { dy: -3 }, unit ? ` (${unit})` : "");
    return shape("text", { class: "middle label", ...attributes }, first, low, after);
  }

  // Place of a value between two ends of an axis, and the round numbers to name there.
  function scale(values, from, to) {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const margin = 0.05 * (most - least) || 0.5;
    const [low, high] = [least - margin, most + margin];
    const power = 10 ** Math.floor(Math.log10((high - low) / 5));
    const step = power * [1, 2, 5, 10].find((k) => (high - low) / (k * power) <= 6);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const ticks = [];
    for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push(k * step);
    const at = (value) => from + ((to - from) * (value - low)) / (high - low);
    return [at, ticks.map((tick) => [at(tick), tick.toFixed(digits).replace("-", "−")])];
  }

  function plot() {
    const [across, up] = axes.map((axis) => axis.selectedOptions[0]);
    const key = (row, option) => Number(row.cells[option.value].dataset.key);
    const rows = [...body.rows].filter((row) => !row.hidden)
      .map((row) => [row, key(row, across), key(row, up)])
      .filter(([, x, y]) => Number.isFinite(x) && Number.isFinite(y));
    const drawn = [titled(across, { x: (left + right) / 2, y: bottom + 40 }),
      titled(up, { transform: `translate(14 ${(top + bottom) / 2}) rotate(-90)` })];
    points = [];
    if (rows.length) {
      const [x, below] = scale(rows.map((row) => row[1]), left, right);
      const [y, beside] = scale(rows.map((row) => row[2]), bottom, top);
      for (const [at, text] of below)
        drawn.push(shape("path", { class: "grid", d: `M${at} ${top}V${bottom}` }),
          shape("text", { class: "middle", x: at, y: bottom + 17 }, text));
      for (const [at, text] of beside)
        drawn.push(shape("path", { class: "grid", d: `M${left} ${at}H${right}` }),
          shape("text", { class: "end", x: left - 6, y: at + 4 }, text));
      points = rows.map(([row, p, q]) => [row, x(p), y(q)]);
    }
    drawn.push(shape("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }));
    for (const [row, cx, cy] of points) {
      const named = [...row.querySelector(".open").childNodes].map((one) => one.textContent);
      const title = shape("title", {}, named.join(""));
      drawn.push(shape("circle", { class: "point", cx, cy, r: 4 }, title));
    }
    map.querySelector("svg").replaceChildren(...drawn, shape("circle", { class: "here", r: 7 }));
    mark();
  }

  // A ring around the structure that is looked at.
  function mark() {
    const here = points.find(([row]) => row === chosen);
    const ring = map.querySelector(".here");
    if (ring) ring.setAttribute("visibility", here ? "visible" : "hidden");
    if (ring && here) ["cx", "cy"].forEach((name, i) => ring.setAttribute(name, here[i + 1]));
  }

  for (const axis of axes) axis.addEventListener("change", plot);
  map.querySelector("svg").addEventListener("click", (event) => {
    const svg = event.currentTarget;
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    const away = ([, x, y]) => Math.hypot(x - at.x, y - at.y);
    const nearest = points.reduce((p, q) => (p && away(p) <= away(q) ? p : q), null);
    if (!nearest || away(nearest) > 16) return; // a finger is broader than a point
    choose(nearest[0]);
    (document.querySelector(".viewer") || nearest[0]).scrollIntoView({ block: "nearest" });
  });

  body.addEventListener("change", tell);
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (event.target.closest(".save")) saveCif(entries[row.dataset.entry].at(-1));
    else if (!event.target.closest("input")) choose(row);
    if (event.target.closest(".open") && matchMedia("(max-width: 88rem)").matches && find("stage"))
      document.querySelector(".viewer").scrollIntoView({ block: "start" });
  });
  for (const card of all(".card"))
    card.addEventListener("click", () => {
      choose(body.querySelector(`[data-entry="${card.dataset.entry}"]`));
      (document.querySelector(".viewer") || list).scrollIntoView({ block: "nearest" });
    });
  if (find("style"))
    find("style").addEventListener("change", () => {
      const modelStyle = Number(find("style").value);
      // Polyhedra need all neighbours of an atom in the cell.
      tellViewer({ showBondedAtoms: modelStyle === 2, modelStyle });
    });
  if (!entries.length) return;
  tell();
  plot();
  choose(body.rows[0]);
})();
