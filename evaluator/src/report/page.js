// Sorting, filtering and figures to keep. The page shows everything without this, too.
"use strict";

/** Sorts a table's rows by a column; numbers by `data-value`, empty cells last either way. */
function sortBy(table, column, heading) {
  const falling = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    // Not run, and why: no figure to sort by.
    if (cell.classList.contains("muted")) return "";
    const text = cell.textContent.trim();
    if (text === "" || text === "–") return "";
    return Number.isFinite(Number(text)) ? Number(text) : text;
  };
  const isEmpty = (value) => value === "";
  const compare = (a, b) => {
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
    return falling ? -order : order;
  };
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [key(row), row]);
  rows.sort((a, b) => compare(a[0], b[0]));
  // Lines between groups mean something in the given order only.
  for (const [, row] of rows) row.classList.remove("group");
  body.append(...rows.map((pair) => pair[1]));
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.title = "sort by this column";
    button.addEventListener("click", () => sortBy(table, column, heading));
    heading.append(button);
  });
  const body = table.tBodies[0];
  if (body.rows.length < 5) continue;
  const label = document.createElement("label");
  label.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "filter rows";
  input.setAttribute("aria-label", "filter rows of " + (table.dataset.name || "this table"));
  const count = document.createElement("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${body.rows.length}` : "";
  });
  label.append(input, count);
  table.parentElement.before(label);
}

/** Does something in the page's light colours, which figures for papers have. */
function inLight(work) {
  const root = document.documentElement.classList;
  root.add("light");
  try {
    return work();
  } finally {
    root.remove("light");
  }
}

/** A figure by itself: the light colours written into it, with its size. */
function standalone(svg) {
  return inLight(() => coloured(svg));
}

function coloured(svg) {
  const copy = svg.cloneNode(true);
  const from = [svg, ...svg.querySelectorAll("*")];
  const to = [copy, ...copy.querySelectorAll("*")];
  const names = ["fill", "stroke", "fill-opacity", "stroke-width", "stroke-dasharray", "font-family", "font-size", "font-weight", "opacity"];
  from.forEach((element, index) => {
    if (["style", "title", "desc"].includes(element.localName)) return;
    const style = getComputedStyle(element);
    for (const name of names) to[index].setAttribute(name, style.getPropertyValue(name));
  });
  const box = svg.viewBox.baseVal;
  // Maps are drawn in cells of one unit; everything else in pixels.
  const scale = box && box.width < 100 ? 16 : 1;
  const width = (box && box.width ? box.width : svg.clientWidth) * scale;
  const height = (box && box.height ? box.height : svg.clientHeight) * scale;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The figure as a bitmap of twice its size, on white. */
function bitmap(svg) {
  const figure = standalone(svg);
  const picture = new Image();
  const canvas = document.createElement("canvas");
  canvas.width = figure.width * 2;
  canvas.height = figure.height * 2;
  return new Promise((done, failed) => {
    picture.onload = () => {
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(done, "image/png");
    };
    picture.onerror = () => failed(new Error("the figure cannot be drawn"));
    picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(figure.text);
  });
}

/** Prints one figure on a page of its size: the print dialogue writes PDF. */
function printed(holder, svg) {
  const box = svg.getBoundingClientRect();
  const page = document.createElement("style");
  page.textContent = `@page { size: ${Math.ceil(box.width) + 60}px ${Math.ceil(holder.getBoundingClientRect().height) + 60}px; margin: 0 }`;
  document.head.append(page);
  document.documentElement.classList.add("one-figure");
  holder.classList.add("printed");
  for (let parent = holder.parentElement; parent; parent = parent.parentElement) parent.classList.add("holds-printed");
  window.addEventListener("afterprint", () => {
    page.remove();
    for (const name of ["one-figure", "printed", "holds-printed"]) {
      for (const element of document.querySelectorAll("." + name)) element.classList.remove(name);
    }
  }, { once: true });
  window.print();
}

for (const holder of document.querySelectorAll("[data-figure]")) {
  const svg = holder.querySelector("svg");
  if (!svg) continue;
  const bar = document.createElement("div");
  bar.className = "keep";
  const button = (label, what, work) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.setAttribute("aria-label", `${holder.dataset.figure}: ${what}`);
    made.addEventListener("click", work);
    bar.append(made);
  };
  const name = holder.dataset.figure.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "").toLowerCase();
  button("SVG", "keep as SVG", () => keep(new Blob([standalone(svg).text], { type: "image/svg+xml" }), name + ".svg"));
  button("PNG", "keep as PNG", () => bitmap(svg).then((blob) => keep(blob, name + ".png")));
  button("PDF", "print, to PDF for example", () => printed(holder, svg));
  holder.append(bar);
}
