"use strict";
// Draws the charts and tables of the page from the numbers in it; nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50; // rows of a table at a time
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = {}; // id -> Vega view, also for tests of the page
  const begun = new Set(); // ids of charts whose drawing has begun
  window.raymat = { data, views };

  const objects = ({ columns, rows }) =>
    rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));

  function config() {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    const beside = window.innerWidth < 640 ? "vertical" : "horizontal"; // of several legends
    return {
      background: null,
      font: "system-ui, sans-serif",
      view: { stroke: null },
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line, labelLimit: 260 },
      legend: {
        ...text, symbolBaseFillColor: ink, symbolBaseStrokeColor: ink,
        orient: "bottom", titleLimit: 400, layout: { bottom: { direction: beside } },
      },
      axisXQuantitative: { tickCount: 8 },
      axisYQuantitative: { tickCount: 6 },
      header: text,
      rule: { color: ink },
      text: { color: ink },
      title: { color: ink },
      mark: { color: dark.matches ? "#7cc0e8" : "#16425b" },
    };
  }

  function csv({ columns, rows }) {
    const cell = (value) => {
      const text = value === null ? "" : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  function download(name, type, content) {
    const link = document.createElement("a");
    link.href = typeof content === "string" && content.startsWith("data:")
      ? content
      : URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
  }

  function button(parent, label, action) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", action);
    parent.append(made);
    return made;
  }

  const nameOf = (part) => part.title.toLowerCase().replace(/[^a-z0-9]+/g, "-");

  async function draw(id) {
    begun.add(id);
    const part = data[id];
    const holder = document.querySelector(`#${id} .content`);
    const spec = { ...part.spec, config: config(), datasets: { ...part.spec.datasets, rows: objects(part) } };
    spec.autosize = { type: "fit-x", contains: "padding" };
    const many = part.rows.length > 4000;
    const result = await vegaEmbed(holder, spec, {
      actions: false, renderer: many ? "canvas" : "svg", tooltip: { theme: dark.matches ? "dark" : "light" },
    });
    views[id] = result.view;
  }

  function chartTools(id) {
    const tools = document.querySelector(`#${id} .tools`);
    const part = data[id];
    const image = async (type) => {
      if (!views[id]) await draw(id);
      const url = type === "svg"
        ? URL.createObjectURL(new Blob([await views[id].toSVG()], { type: "image/svg+xml" }))
        : await views[id].toImageURL("png", 2);
      download(`${nameOf(part)}.${type}`, "", url.startsWith("data:") ? url : await (await fetch(url)).blob());
    };
    if (part.spec.params?.some((param) => param.bind === "scales")) {
      button(tools, "whole chart", () => draw(id));
      const hint = document.createElement("span");
      hint.textContent = "drag to move, Ctrl + wheel or pinch to zoom";
      tools.append(hint);
    }
    button(tools, "SVG", () => image("svg"));
    button(tools, "PNG", () => image("png"));
  }

  function pictureTool(id, source) {
    const ending = source.startsWith("data:image/svg") ? "svg" : "png";
    const tools = document.querySelector(`#${id} .tools`);
    button(tools, ending.toUpperCase(), () => download(`${nameOf(data[id])}.${ending}`, "", source));
  }

  function table(id) {
    const part = data[id];
    const holder = document.querySelector(`#${id} .content`);
    const find = document.createElement("div");
    find.className = "find";
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "search";
    input.setAttribute("aria-label", `search in ${part.title}`);
    const count = document.createElement("span");
    const body = document.createElement("tbody");
    const element = document.createElement("table");
    const head = element.createTHead().insertRow();
    element.append(body);
    let kept = part.rows;
    let page = 0;
    let sorted = null;
    let falling = false;

    // JSON has no number for these.
    const infinite = new Map([["inf", Infinity], ["-inf", -Infinity]]);
    const isNumber = (value) => typeof value === "number" || infinite.has(value);
    const size = (value) => infinite.get(value) ?? value;
    const say = (value) => (infinite.has(value) ? value.replace("inf", "∞") : String(value));
    const numeric = part.columns.map((_, i) =>
      part.rows.some((row) => typeof row[i] === "number") &&
      part.rows.every((row) => row[i] === null || isNumber(row[i])));

    function show() {
      const pages = Math.max(1, Math.ceil(kept.length / PAGE));
      page = Math.min(page, pages - 1);
      body.replaceChildren();
      for (const row of kept.slice(page * PAGE, (page + 1) * PAGE)) {
        const line = body.insertRow();
        row.forEach((value, i) => {
          const cell = line.insertCell();
          cell.textContent = value === null ? "" : numeric[i] ? say(value) : String(value);
          if (numeric[i]) cell.className = "number";
          else if (cell.textContent.length > 60) cell.className = "long";
        });
      }
      const all = part.rows.length.toLocaleString("en");
      count.textContent = kept.length === part.rows.length
        ? `${all} row${kept.length === 1 ? "" : "s"}` : `${kept.length.toLocaleString("en")} of ${all} rows`;
      if (pages > 1) count.textContent += `, page ${page + 1} of ${pages}`;
      back.disabled = page === 0;
      forward.disabled = page === pages - 1;
    }

    const compare = (x, y) => (x > y) - (x < y); // inf - inf would be no number

    function order() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      kept = part.rows.filter((row) => {
        const text = row.join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
      if (sorted !== null) {
        const sign = falling ? -1 : 1;
        kept = [...kept].sort((a, b) => {
          const [x, y] = [a[sorted], b[sorted]];
          if (x === null || y === null) return (x === null) - (y === null);
          return sign * (numeric[sorted] ? compare(size(x), size(y)) : String(x).localeCompare(String(y), "en", { numeric: true }));
        });
      }
      show();
    }

    part.columns.forEach((name, i) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      button(cell, name, () => {
        falling = sorted === i && !falling;
        sorted = i;
        head.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
        page = 0;
        order();
      });
      head.append(cell);
    });
    input.addEventListener("input", () => { page = 0; order(); });
    find.append(input, count);
    const back = button(find, "‹", () => { page -= 1; show(); });
    const forward = button(find, "›", () => { page += 1; show(); });
    back.setAttribute("aria-label", "previous page");
    forward.setAttribute("aria-label", "next page");
    const frame = document.createElement("div");
    frame.style.overflowX = "auto";
    frame.append(element);
    if (part.rows.length <= PAGE) { back.hidden = true; forward.hidden = true; }
    if (part.rows.length <= 8) find.hidden = true;
    holder.replaceChildren(find, frame);
    show();
  }

  const charts = [];
  for (const [id, part] of Object.entries(data)) {
    if (part.spec) { charts.push(id); chartTools(id); }
    if (part.table) table(id);
    const picture = document.querySelector(`#${id} img`);
    if (picture) pictureTool(id, picture.src);
    if (part.rows) {
      button(document.querySelector(`#${id} .tools`), "CSV", () =>
        download(`${nameOf(part)}.csv`, "text/csv", csv(part)));
    }
  }

  // A chart is drawn when it comes near, so that a long page opens at once, and the others when there
  // is nothing else to do, so that all of them are there when it is printed.
  const whenIdle = window.requestIdleCallback ?? ((action) => setTimeout(action, 50));
  const drawRest = async () => {
    const id = charts.find((name) => !begun.has(name));
    if (id) { await draw(id); whenIdle(drawRest); }
  };
  const watcher = new IntersectionObserver((seen) => {
    for (const entry of seen) {
      if (entry.isIntersecting) {
        watcher.unobserve(entry.target);
        if (!begun.has(entry.target.id)) draw(entry.target.id);
      }
    }
  }, { rootMargin: "400px" });
  charts.forEach((id) => watcher.observe(document.getElementById(id)));
  window.addEventListener("load", () => whenIdle(drawRest));
  window.raymat.drawAll = () => Promise.all(charts.filter((id) => !views[id]).map(draw));
  dark.addEventListener("change", () => Object.keys(views).forEach(draw));
})();
