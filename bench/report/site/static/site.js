// Sorting, filtering and unfolding. Every page is complete without it.
"use strict";

function number(cell) {
  return cell.dataset.n === undefined ? null : Number(cell.dataset.n);
}

// Missing values and lines that are not ranked stay last, whichever way is sorted.
function compare(index, numeric, direction) {
  return (a, b) => {
    const unranked = a.classList.contains("unranked") - b.classList.contains("unranked");
    if (unranked) return unranked;
    const [left, right] = [a.cells[index], b.cells[index]];
    if (!numeric) {
      return direction * left.textContent.trim().localeCompare(right.textContent.trim(), "en", { numeric: true });
    }
    const [x, y] = [number(left), number(right)];
    if (x === null || y === null) return (x === null) - (y === null);
    return direction * (x - y);
  };
}

// Published and measured lines are groups of their own and are sorted within.
function sort(table, header) {
  const numeric = header.dataset.better !== undefined;
  const first = header.dataset.better === "high" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  for (const cell of header.parentElement.cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const by = compare(header.cellIndex, numeric, order === "ascending" ? 1 : -1);
  for (const body of table.tBodies) {
    body.append(...[...body.querySelectorAll("tr.line")].sort(by));
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const header of table.tHead.rows[0].cells) {
    if (header.dataset.fixed !== undefined) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}

function keep(row, wanted) {
  const published = row.parentElement.classList.contains("published");
  if (published && !wanted.published) return false;
  if (!row.dataset.method.toLowerCase().includes(wanted.method)) return false;
  return ["backbone", "prior", "device"].every((key) => !wanted[key] || row.dataset[key] === wanted[key]);
}

function filter(form) {
  const field = form.elements;
  const wanted = {
    method: field.namedItem("method").value.trim().toLowerCase(),
    published: field.namedItem("published")?.checked ?? true,
  };
  for (const key of ["backbone", "prior", "device"]) wanted[key] = field.namedItem(key)?.value ?? "";
  for (const row of document.querySelectorAll("tr.line[data-method]")) row.hidden = !keep(row, wanted);
  for (const body of document.querySelectorAll("tbody")) {
    const group = body.querySelector("tr.group");
    if (group) group.hidden = !body.querySelector("tr.line:not([hidden])");
  }
  for (const note of document.querySelectorAll(".nomatch")) {
    note.hidden = note.previousElementSibling.querySelector("tr.line:not([hidden])") !== null;
  }
  // The tables of the protocols: what is folded away is filtered too, and not counted.
  const lines = [...document.querySelectorAll("table.main tr.line")];
  const shown = lines.filter((row) => !row.hidden).length;
  const device = wanted.device ? " Published rows name no device." : "";
  form.querySelector(".status").textContent =
    shown === lines.length ? "" : `${shown} of ${lines.length} ${form.dataset.counted} shown.${device}`;
  for (const region of document.querySelectorAll(".scroll")) cue(region);
}

// Whether a table goes on beyond the right edge.
function cue(region) {
  const more = region.scrollWidth - region.clientWidth - region.scrollLeft > 4;
  region.classList.toggle("more", more);
  region.previousElementSibling?.classList.toggle("more", region.scrollWidth - region.clientWidth > 4);
}

for (const region of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "cue";
  hint.textContent = "This table scrolls sideways.";
  region.before(hint);
  region.addEventListener("scroll", () => cue(region), { passive: true });
  new ResizeObserver(() => cue(region)).observe(region);
}

for (const form of document.querySelectorAll("form.filters")) {
  form.hidden = false;
  form.addEventListener("input", () => filter(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => filter(form)));
  filter(form); // browsers keep what was entered when a page is loaded again
}

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not(.random)")) folded.open = true;
});
