// The page: the list sorts, a row opens its structure, and structures can be saved as CIF.
(() => {
  const { entries, looks } = JSON.parse(document.getElementById("structures").textContent);
  const list = document.getElementById("list");
  const body = list.tBodies[0];

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

  for (const button of list.tHead.querySelectorAll(".sort"))
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of list.tHead.querySelectorAll("[aria-sort]"))
        other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(heading.cellIndex, descending);
    });

  // -- files ------------------------------------------------------------------------------------
  const urlOf = (view) => URL.createObjectURL(new Blob([view.cif], { type: "chemical/x-cif" }));

  function save(view) {
    const link = document.createElement("a");
    link.href = urlOf(view);
    link.download = view.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // -- structures -------------------------------------------------------------------------------
  if (!entries.length) return;
  const find = (id) => document.getElementById(id);
  const painter = new CrystalView(find("canvas"));
  let chosen = null;

  function choose(row) {
    if (chosen) chosen.classList.remove("chosen");
    chosen = row;
    row.classList.add("chosen");
    find("name").replaceChildren(...row.querySelector(".open").cloneNode(true).childNodes);
    const views = entries[row.dataset.entry];
    const buttons = views.map((view) => {
      const button = document.createElement("button");
      button.textContent = view.label;
      button.addEventListener("click", () => look(view, button));
      return button;
    });
    find("views").replaceChildren(...(views.length > 1 ? buttons : []));
    look(views[0], buttons[0]);
  }

  function look(view, button) {
    for (const other of find("views").children) other.setAttribute("aria-pressed", other === button);
    const crystal = parseCif(view.cif);
    painter.show(sceneOf(crystal, looks));
    const link = find("cif");
    if (link.href) URL.revokeObjectURL(link.href);
    link.href = urlOf(view);
    link.download = view.file;
    const counts = new Map();
    for (const { symbol } of crystal.atoms) counts.set(symbol, (counts.get(symbol) || 0) + 1);
    find("legend").replaceChildren(...[...counts].map(([symbol, n]) => {
      const item = document.createElement("li");
      const dot = document.createElement("span");
      dot.style.background = looks[symbol] ? looks[symbol].colour : "#ff1493";
      item.append(dot, `${symbol} × ${n}`);
      return item;
    }));
  }

  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (event.target.closest(".save")) save(entries[row.dataset.entry][0]);
    else choose(row);
    if (event.target.closest(".open") && matchMedia("(max-width: 60rem)").matches)
      document.querySelector(".viewer").scrollIntoView({ block: "start" });
  });

  function rotate(on) {
    painter.rotate(on);
    find("rotate").setAttribute("aria-pressed", on);
  }
  find("rotate").addEventListener("click", () => rotate(!painter.rotating));
  choose(body.rows[0]);
  rotate(!matchMedia("(prefers-reduced-motion: reduce)").matches);
})();
