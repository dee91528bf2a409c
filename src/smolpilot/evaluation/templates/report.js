"use strict";
(() => {
  const root = document.documentElement;

  // Both languages are in the page; which one shows is the language of the root element.
  const buttons = [...document.querySelectorAll(".languages button")];
  function choose(language) {
    root.lang = language;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === language));
    const heading = document.querySelector("h1");
    if (heading) document.title = heading.innerText;
  }
  for (const button of buttons) button.addEventListener("click", () => choose(button.value));
  for (const box of document.querySelectorAll(".languages")) box.hidden = false;
  choose((navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en");

  // Tables are sorted by the value of a cell (data-v), else by its number or text; totals stay below.
  const text = cell => (cell.dataset.v !== undefined ? cell.dataset.v : cell.innerText).trim();
  const number = value => value === "" ? NaN : Number(value.replace(/,/g, "").replace("−", "-").replace(/\s*%$/, ""));
  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
    return isNaN(x) ? a.localeCompare(b, root.lang) : x - y;
  }
  function sort(table, column, header) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].filter(row => !row.classList.contains("total"));
    const keys = new Map(rows.map(row => [row, text(row.cells[column])]));
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if ((x === "") !== (y === "")) return x === "" ? 1 : -1;  // what is not there comes last, both ways
      return (down ? -1 : 1) * compare(x, y);
    });
    const totals = [...body.rows].filter(row => row.classList.contains("total"));
    body.append(...rows, ...totals);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const head = table.tHead && table.tHead.rows[0];
    if (!head || table.tBodies[0].rows.length < 2) continue;
    [...head.cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, column, header));
    });
  }

  // What is folded is printed, too, and a video as its poster.
  let opened = [], posters = [];
  addEventListener("beforeprint", () => {
    posters = [...document.querySelectorAll("video[poster]")].map(video => {
      const image = document.createElement("img");
      image.className = "poster";
      image.alt = "";
      image.src = video.poster;
      video.after(image);
      return image;
    });
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { 
    for (const one of opened) one.open = false;
    for (const one of posters) one.remove();
  });
})();
