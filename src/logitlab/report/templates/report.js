"use strict";
// Sorting: the first press puts the best on top, the next one turns the order round; blanks stay at the end.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = heading.closest("table").tBodies[0];
    const place = heading.cellIndex;
    const now = heading.getAttribute("aria-sort");
    const first = button.dataset.first;
    const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentNode.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const numeric = button.dataset.kind === "number";
    const value = (row) => row.cells[place].dataset.value;
    const rows = Array.from(body.rows);
    rows.sort((one, two) => {
      const a = value(one), b = value(two);
      if (a === "" || b === "") return (a === "") - (b === "");
      return sign * (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    });
    body.append(...rows);
  });
}
// The legend: press a head to see it alone in the pictures that show all of them.
for (const legend of document.querySelectorAll(".legend[data-for]")) {
  const figures = document.getElementById(legend.dataset.for);
  for (const button of legend.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const alone = button.getAttribute("aria-pressed") !== "true";
      for (const other of legend.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(alone));
      for (const mark of figures.querySelectorAll("[class^=series-]")) {
        mark.classList.toggle("faded", alone && !mark.classList.contains(button.dataset.series));
      }
    });
  }
}
