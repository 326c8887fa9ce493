
"use strict";
(() => {
  const make = (name, attributes, text) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const shown = (row, column) => row.cells[column].textContent.trim();
  const value = (text) => {
    const number = Number.parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? Number.NEGATIVE_INFINITY : number;
  };

  function sortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = make("button", { type: "button" }, heading.textContent);
      const numeric = heading.classList.contains("number");
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = heading.getAttribute("aria-sort");
        const down = before === null ? numeric : before === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        const compare = numeric
          ? (a, b) => value(shown(a, column)) - value(shown(b, column))
          : (a, b) => shown(a, column).localeCompare(shown(b, column), "en", { numeric: true });
        rows.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  function filtered(table, number) {
    const rows = [...table.tBodies[0].rows];
    const what = table.dataset.search;
    const tools = make("div", { class: "tools" });
    const name = make("label", {}, `Filter by ${what} or any column`);
    const input = make("input", { type: "search", id: `filter-${number}`, autocomplete: "off", spellcheck: "false" });
    const count = make("output", { for: input.id, "aria-live": "polite" });
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const line = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => line.includes(word));
        left += row.hidden ? 0 : 1;
      }
      count.textContent = `${left} of ${rows.length} rows`;
    };
    input.addEventListener("input", apply);
    name.append(input);
    tools.append(name, count);
    table.closest(".scroll").before(tools);
    apply();
  }

  function tabbed(group, number) {
    const panels = [...group.querySelectorAll(".panel")];
    const list = make("div", { role: "tablist", "aria-label": group.dataset.label });
    const tabs = panels.map((panel, index) => {
      const tab = make("button", {
        type: "button", role: "tab", id: `tab-${number}-${index}`, "aria-controls": `panel-${number}-${index}`,
      }, panel.querySelector("h3").textContent);
      panel.id = `panel-${number}-${index}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      panel.append(copier(panel.querySelector("pre")));
      return tab;
    });
    const select = (chosen) => tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
    tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => select(index));
      tab.addEventListener("keydown", (event) => {
        const last = tabs.length - 1;
        const next = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last }[event.key];
        if (next === undefined) return;
        event.preventDefault();
        select(next);
        tabs[next].focus();
      });
    });
    list.append(...tabs);
    group.prepend(list);
    group.classList.add("tabbed");
    select(0);
  }

  function copier(source) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    const say = (text) => {
      button.textContent = text;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    };
    button.addEventListener("click", () => {
      const selection = getSelection();
      selection.selectAllChildren(source);
      const done = navigator.clipboard ? navigator.clipboard.writeText(source.textContent) : Promise.reject();
      done.then(() => say("Copied"), () => say(document.execCommand("copy") ? "Copied" : "Selected"));
    });
    return button;
  }

  // only what scrolls is a stop for the keyboard
  function stops() {
    for (const frame of document.querySelectorAll(".scroll")) {
      const scrolls = frame.scrollWidth > frame.clientWidth || frame.scrollHeight > frame.clientHeight;
      if (scrolls) frame.setAttribute("tabindex", "0");
      else frame.removeAttribute("tabindex");
    }
  }

  document.querySelectorAll("table[data-search]").forEach((table, number) => {
    sortable(table);
    filtered(table, number);
  });
  document.querySelectorAll(".tabs").forEach(tabbed);
  stops();
  addEventListener("resize", stops);
  document.addEventListener("toggle", stops, true);
})();
