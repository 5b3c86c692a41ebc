// Sortable tables: a button in each column head of a table of class `sortable` sorts its rows in ascending order, then in
// descending order, then back to the original order. Without scripts the table keeps its original order.
(() => {
  "use strict";
  const ORDERS = ["ascending", "descending", "none"]; // values of aria-sort, in the order of clicks
  const text = (row, column) => row.cells[column].textContent.trim();
  const isNumber = (value) => /^[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?%?( ±.*)?$/i.test(value);
  const number = (value) => parseFloat(value.replace("−", "-").replaceAll(",", ""));
  const byText = new Intl.Collator(undefined, { numeric: true }).compare;

  // Sorts rows by a column. Cells without a value go last in both orders. Equal rows keep their original order.
  function sorted(rows, column, order) {
    if (order === "none") return rows;
    const missing = (row) => ["", "—"].includes(text(row, column));
    const present = rows.filter((row) => !missing(row));
    const values = new Map(present.map((row) => [row, text(row, column)]));
    const numeric = [...values.values()].every(isNumber);
    const compare = numeric ? (a, b) => number(a) - number(b) : byText;
    const sign = order === "ascending" ? 1 : -1;
    return [...present.sort((a, b) => sign * compare(values.get(a), values.get(b))), ...rows.filter(missing)];
  }

  function prepare(table) {
    const heads = [...table.tHead.rows[0].cells];
    const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows] })); // in the original order
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = ORDERS[(ORDERS.indexOf(head.getAttribute("aria-sort") ?? "none") + 1) % ORDERS.length];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order !== "none") head.setAttribute("aria-sort", order);
        bodies.forEach(({ body, rows }) => body.append(...sorted(rows, column, order)));
      });
    });
  }

  document.querySelectorAll("table.sortable").forEach(prepare);
})();
