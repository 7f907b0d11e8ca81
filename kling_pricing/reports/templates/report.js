"use strict";
// Sorts and filters the tables of the page. Without this script, the page is complete and keeps its order.
const number = text => Number(text.replaceAll(",", ""));
const compare = new Intl.Collator("en", { numeric: true }).compare;

function addFilter(box, table) {
  const body = table.tBodies[0], all = body.rows.length;
  if (all < 8) return;
  const label = document.createElement("label"), input = document.createElement("input");
  const count = document.createElement("span");
  label.className = "filter";
  input.type = "search";
  input.placeholder = "Filter rows";
  input.setAttribute("aria-label", `Filter the rows of ${table.caption.textContent}`);
  count.setAttribute("role", "status");
  label.append(input, count);
  box.before(label);
  let texts = null;
  input.addEventListener("input", () => {
    texts ??= Array.from(body.rows, row => [row, row.textContent.toLowerCase()]);
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of texts) {
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${all} rows; the totals include all rows` : "";
  });
}

function addSorting(table) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) return;
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const place = heading.cellIndex, isNumber = heading.classList.contains("n");
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const keyed = Array.from(body.rows, row => [row.cells[place].textContent.trim(), row]);
      keyed.sort(([one], [other]) => {
        if (!one || !other) return !one - !other;
        const order = isNumber ? number(one) - number(other) : compare(one, other);
        return descending ? -order : order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  }
}

for (const box of document.querySelectorAll(".scroll")) {
  const table = box.querySelector("table");
  addFilter(box, table);
  addSorting(table);
}
