// Sorting, filtering and unfolding. Every page is complete without it.
"use strict";

function number(cell) {
  return cell.dataset.n === undefined ? null : Number(cell.dataset.n);
}

// Missing values and lines that lack categories stay last, whichever way is sorted.
function compare(index, numeric, direction) {
  return (a, b) => {
    const partial = a.classList.contains("partial") - b.classList.contains("partial");
    if (partial) return partial;
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
  for (const key of ["backbone", "prior", "device"]) wanted[key] = field.namedItem(key).value;
  let [shown, all] = [0, 0];
  for (const row of document.querySelectorAll("tr.line[data-method]")) {
    row.hidden = !keep(row, wanted);
    all += 1;
    shown += !row.hidden;
  }
  for (const body of document.querySelectorAll("tbody")) {
    const group = body.querySelector("tr.group");
    if (group) group.hidden = !body.querySelector("tr.line:not([hidden])");
  }
  const device = wanted.device ? " Published rows name no device." : "";
  form.querySelector(".status").textContent = shown === all ? "" : `${shown} of ${all} lines shown.${device}`;
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
