"use strict";
// Sorts and filters the table of cores; everything else on the page is there without a script.
(function () {
  const table = document.getElementById("cores");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const words = document.getElementById("words");
  const status = document.getElementById("status");
  const shown = document.getElementById("shown");
  const texts = rows.map(function (row) { return row.textContent.toLowerCase(); });

  function filter() {
    const wanted = words.value.toLowerCase();
    let count = 0;
    rows.forEach(function (row, i) {
      const fits = texts[i].includes(wanted) && (status.value === "" || row.dataset.status === status.value);
      row.hidden = !fits;
      count += fits;
    });
    shown.value = count === rows.length ? String(count) : count + " of " + rows.length;
  }

  function key(row, column) {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
  }

  function sort(column, head) {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) {
      other.removeAttribute("aria-sort");
    }
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const keyed = rows.map(function (row) { return [key(row, column), row]; });
    keyed.sort(function (a, b) {
      const order = typeof a[0] === "number" ? a[0] - b[0] : a[0].localeCompare(b[0]);
      return descending ? -order : order;
    });
    body.append(...keyed.map(function (pair) { return pair[1]; }));
  }

  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    head.firstElementChild.addEventListener("click", function () { sort(column, head); });
  });
  words.addEventListener("input", filter);
  status.addEventListener("input", filter);
  words.form.addEventListener("submit", function (event) { event.preventDefault(); });
  filter();
})();
