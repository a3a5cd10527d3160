// SPDX-License-Identifier: GPL-2.0-only
// The table is there without this; this adds explanations, filters and the keyboard.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const table = byId("matrix"), scroller = byId("scroller"), panel = byId("panel"), detail = byId("detail");
const hint = detail.innerHTML;
const rows = [...table.tBodies[0].querySelectorAll("tr.control")];
const headings = [...table.tBodies[0].querySelectorAll("tr.heading")];
const cpuHeads = [...table.tHead.rows[1].cells].slice(1);
const generationHeads = [...table.tHead.rows[0].cells].slice(1);
const columns = [...table.querySelectorAll("col.cpu")];

// ---- Filters ----
const columnStyle = document.head.appendChild(document.createElement("style"));
let shownRows = rows.map((_, i) => i), shownColumns = data.cpus.map((_, i) => i);

const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
// What is looked for in a control is the beginning of a word: "ept" is not in "except".
const plain = (text) => ` ${text.toLowerCase().replace(/[^a-z0-9.]+/g, " ")}`;
const controlText = data.controls.map((c) =>
  plain([c.name, c.constant, c.slug, c.sdm, c.summary, c.prose, ...c.exits].join(" ")));
const cpuText = data.cpus.map((c) =>
  [c.label, c.title, c.name, c.generation, c.year || "", c.vendor, ...c.also].join("\n").toLowerCase());
const checked = (id) => [...byId(id).querySelectorAll("input")].map((input) => input.checked);
// No chip of a group pressed means that the group does not restrict.
const allows = (chips, index) => chips[index] || !chips.includes(true);

function chooseColumns() {
  const wanted = words(byId("cpu").value), lines = checked("lines"), one = byId("one").checked;
  const seen = new Set();
  return data.cpus.map((_, i) => i).filter((i) => {
    const cpu = data.cpus[i], key = cpu.line + cpu.generation;
    if (!allows(lines, cpu.line) || !wanted.every((word) => cpuText[i].includes(word)) || (one && seen.has(key)))
      return false;
    seen.add(key);
    return true;
  });
}

const cellOf = (row, column) => data.controls[row].ways[data.controls[row].cells[column]];

function chooseRows() {
  const wanted = words(plain(byId("name").value)), fields = checked("fields"), differ = byId("differ").checked;
  return data.controls.map((_, i) => i).filter((i) =>
    allows(fields, data.controls[i].field) && wanted.every((word) => controlText[i].includes(` ${word}`)) &&
    (!differ || new Set(shownColumns.map((column) => cellOf(i, column).state)).size > 1));
}

function showColumns() {
  const shown = new Set(shownColumns);
  // Child 1 of each row is its name.
  const hidden = data.cpus.map((_, i) => i).filter((i) => !shown.has(i));
  columnStyle.textContent = hidden.length === 0 ? "" :
    hidden.map((i) => `tr.cpus>:nth-child(${i + 2}),tr.control>:nth-child(${i + 2}),col.cpu:nth-child(${i + 2})`).join(",") +
    "{display:none}";
  for (const head of generationHeads) {
    const first = +head.dataset.first, count = +head.dataset.count;
    const left = shownColumns.filter((i) => i >= first && i < first + count).length;
    head.hidden = left === 0;
    head.colSpan = Math.max(left, 1);
  }
  for (const heading of headings)
    heading.cells[1].colSpan = Math.max(shownColumns.length, 1);
  table.style.setProperty("--columns", shownColumns.length);
  table.classList.toggle("one", byId("one").checked);
}

function applyFilters() {
  shownColumns = chooseColumns();
  shownRows = chooseRows();
  showColumns();
  const shown = new Set(shownRows);
  rows.forEach((row, i) => { row.hidden = !shown.has(i); });
  for (const heading of headings)
    heading.hidden = !shownRows.some((i) => data.controls[i].field === +heading.dataset.field);
  const nothing = shownRows.length === 0 || shownColumns.length === 0;
  byId("none").hidden = !nothing;
  table.hidden = nothing;
  const count = (shown, all, what) => `${shown < all ? `${shown} of ` : ""}${all} ${what}`;
  byId("count").innerText = `${count(shownRows.length, data.controls.length, "controls")}\n${count(shownColumns.length, data.cpus.length, "CPUs")}`;
  if (!shown.has(active.row) || (active.column >= 0 && !shownColumns.includes(active.column)))
    setActive(shownRows[0] ?? 0, shownColumns[0] ?? 0, false);
  rememberFilters();
}

// The address keeps the filters, so that a view can be handed on.
function rememberFilters() {
  const state = new URLSearchParams();
  for (const id of ["name", "cpu"])
    if (byId(id).value.trim()) state.set(id, byId(id).value.trim());
  for (const id of ["one", "differ"])
    if (byId(id).checked) state.set(id, "1");
  for (const id of ["fields", "lines"]) {
    const on = checked(id).flatMap((yes, i) => (yes ? [i] : []));
    if (on.length) state.set(id, on.join("."));
  }
  const text = state.toString();
  try { history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search); } catch { /* no history here */ }
}

function recallFilters() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const id of ["name", "cpu"]) byId(id).value = state.get(id) ?? "";
  for (const id of ["one", "differ"]) byId(id).checked = state.get(id) === "1";
  for (const id of ["fields", "lines"]) {
    const on = (state.get(id) ?? "").split(".");
    byId(id).querySelectorAll("input").forEach((input, i) => { input.checked = on.includes(String(i)); });
  }
  return state.size !== 0;
}

// ---- Explanations ----
const esc = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
const mark = (state, on) => `<span class="mark ${state}${on ? " on" : ""}"></span>`;
const pairs = (list) => `<dl>${list.filter(([, text]) => text).map(([name, text]) => `<dt>${name}</dt><dd>${text}</dd>`).join("")}</dl>`;

function controlHead(control) {
  const field = data.fields[control.field];
  return `<h2>${esc(control.name)}</h2>
    <p class="where"><code>${esc(control.constant)}</code><br>bit ${control.bit} of the ${esc(field.name)} controls, SDM Vol. 3C, ${esc(control.sdm)}</p>`;
}

function controlFacts(control) {
  return `<p class="what">${esc(sentence(control.summary))} ${esc(control.prose)}</p>` +
    `<h3>The control</h3>` + pairs([
      ["minivmx", esc(control.use)], ["kvm_intel", esc(control.kvm)], ["exits", control.exits.map(esc).join("<br>")],
      ["parameter", control.parameter && `<code>${esc(control.parameter)}</code>`], ["moved by", esc(control.moved)],
      ["since", esc(control.since)], ["lab", control.lab && `<code>${esc(control.lab)}</code>`]]);
}

function steps(way) {
  if (way.steps.length === 0)
    return `<p>${esc(sentence(way.untouched))}</p>`;
  return `<ol>${way.steps.map(([set, rule, where, reason]) =>
    `<li class="step${set ? " set" : ""}"><b>${set ? "on" : "off"}</b>, because ${esc(data.text[reason])}` +
    `<small><code>${esc(data.text[where])}</code>, rule <code>${esc(data.text[rule])}</code></small></li>`).join("")}</ol>`;
}

function explainCell(row, column) {
  const control = data.controls[row], cpu = data.cpus[column], way = cellOf(row, column);
  const freedom = { "0": "must be 0", "1": "must be 1", "0/1": "may be 0 or 1", "?": "is not told" }[way.allows];
  return controlHead(control) +
    `<h3>On ${esc(cpu.title)}${cpu.emulated ? ", emulated" : ""}</h3>
    <div class="verdict">${mark(way.state, way.on)}<div><b>${way.state}</b>: ${esc(data.states[way.state])}.
    ${way.state === "missing" || way.state === "absent" ? "" : `In the VMCS of a typical vCPU the bit is <b>${way.on ? "on" : "off"}</b>.`}</div></div>
    <h3>Why</h3>
    <p class="where">The CPU says that the bit ${freedom}: <code>${esc(way.msr)}</code></p>
    <div style="height:6px"></div>${steps(way)}` + (cpu.refused ? `<p class="where">${esc(cpu.refused)}</p>` : "") +
    controlFacts(control);
}

function countsOf(ways) {
  const counts = new Map();
  for (const way of ways) counts.set(way.state, (counts.get(way.state) ?? 0) + 1);
  const present = Object.keys(data.states).filter((state) => counts.has(state));
  return `<div class="bar" aria-hidden="true">${present.map((s) => `<i class="fill-${s}" style="flex:${counts.get(s)}"></i>`).join("")}</div>
    <ul class="counts">${present.map((s) => `<li>${mark(s, s !== "available")} ${counts.get(s)} ${s}</li>`).join("")}</ul>`;
}

function explainControl(row) {
  const control = data.controls[row];
  return controlHead(control) + `<h3>On the ${shownColumns.length} CPUs shown</h3>` +
    countsOf(shownColumns.map((column) => cellOf(row, column))) + controlFacts(control);
}

function explainCpu(column) {
  const cpu = data.cpus[column];
  return `<h2>${esc(cpu.title)}</h2><p class="where">${esc(cpu.generation)}${cpu.year ? `, ${cpu.year}` : ""}${cpu.emulated ? ", emulated" : ""}</p>
    <p class="what">${cpu.refused ? esc(cpu.refused) : "minivmx loads here."}</p>
    <h3>Its ${data.controls.length} controls</h3>` + countsOf(data.controls.map((_, row) => cellOf(row, column))) +
    `<h3>The CPU</h3>` + pairs([["--cpu", `<code>${esc(cpu.name)}</code>`], ["vendor", esc(cpu.vendor)],
      ["signature", `<code>${esc(cpu.signature)}</code>`], ["source", `<code>${esc(cpu.source)}</code>`],
      ["same values", cpu.also.map(esc).join("<br>")]]);
}

// ---- Which cell: hover shows, focus shows, click and Enter keep ----
let active = { row: 0, column: 0 }, kept = null;
const sheet = matchMedia("(max-width: 1020px)");

function cellElement(row, column) { return rows[row]?.cells[column + 1]; }

function show(row, column) {
  detail.innerHTML = column < 0 ? explainControl(row) : row < 0 ? explainCpu(column) : explainCell(row, column);
  panel.scrollTop = 0;
  for (const element of table.querySelectorAll(".here")) element.classList.remove("here");
  if (row >= 0) rows[row].classList.add("here");
  if (column >= 0) {
    cpuHeads[column].classList.add("here");
    columns[column].classList.add("here");
  }
}

function keep(row, column) {
  release();
  kept = { row, column };
  (row < 0 ? cpuHeads[column] : cellElement(row, column)).classList.add("kept");
  show(row, column);
  panel.classList.add("open");
}

function release() {
  table.querySelector(".kept")?.classList.remove("kept");
  kept = null;
  panel.classList.remove("open");
}

function setActive(row, column, focus = true) {
  const before = cellElement(active.row, active.column);
  if (before) before.tabIndex = -1;
  active = { row, column };
  const cell = cellElement(row, column);
  if (!cell) return;
  cell.tabIndex = 0;
  if (focus) cell.focus({ preventScroll: true }), reveal(cell);
}

// The cell may lie behind the headings, which stay in place.
function reveal(cell) {
  const box = cell.getBoundingClientRect(), view = scroller.getBoundingClientRect();
  const left = rows[active.row].cells[0].getBoundingClientRect().width, head = table.tHead.getBoundingClientRect().height;
  if (cell.cellIndex > 0 && box.left < view.left + left) scroller.scrollLeft -= view.left + left - box.left;
  if (cell.cellIndex > 0 && box.right > view.left + scroller.clientWidth) scroller.scrollLeft += box.right - view.left - scroller.clientWidth;
  if (box.top < view.top + head) scroller.scrollTop -= view.top + head - box.top;
  if (box.bottom > view.top + scroller.clientHeight) scroller.scrollTop += box.bottom - view.top - scroller.clientHeight;
}

// Row and column under an element of the table; -1 where it is a heading.
function placeOf(element) {
  const cell = element.closest?.("td.cell, th.control, tr.cpus th.cpu");
  if (!cell) return null;
  if (cell.matches("th.cpu")) return { row: -1, column: cell.cellIndex - 1 };
  return { row: rows.indexOf(cell.parentElement), column: cell.cellIndex - 1 };
}

table.addEventListener("pointerover", (event) => {
  const place = event.pointerType === "mouse" && !kept && !sheet.matches && placeOf(event.target);
  if (place) show(place.row, place.column);
});
table.addEventListener("click", (event) => {
  const place = placeOf(event.target);
  if (!place) return;
  if (kept && kept.row === place.row && kept.column === place.column) return release();
  if (place.row >= 0) setActive(place.row, place.column);
  keep(place.row, place.column);
});
table.addEventListener("focusin", (event) => {
  const place = placeOf(event.target);
  if (!place || place.row < 0) return;
  setActive(place.row, place.column, false);
  const cell = cellElement(place.row, place.column), way = place.column >= 0 && cellOf(place.row, place.column);
  if (way)
    cell.setAttribute("aria-label", `${data.controls[place.row].name}, ${data.cpus[place.column].label}: ${way.state}, ${way.on ? "on" : "off"}`);
  if (!kept) show(place.row, place.column);
});

function step(list, from, by) {
  const at = list.indexOf(from);
  return list[Math.min(Math.max(at + by, 0), list.length - 1)];
}

table.addEventListener("keydown", (event) => {
  if (event.altKey || event.metaKey) return;
  let { row, column } = active;
  const places = [-1, ...shownColumns], page = Math.max(1, Math.floor(scroller.clientHeight / rows[row].offsetHeight) - 8);
  const moves = {
    ArrowRight: () => { column = step(places, column, 1); }, ArrowLeft: () => { column = step(places, column, -1); },
    ArrowDown: () => { row = step(shownRows, row, 1); }, ArrowUp: () => { row = step(shownRows, row, -1); },
    PageDown: () => { row = step(shownRows, row, page); }, PageUp: () => { row = step(shownRows, row, -page); },
    Home: () => { column = places[0]; if (event.ctrlKey) row = shownRows[0]; },
    End: () => { column = places.at(-1); if (event.ctrlKey) row = shownRows.at(-1); },
  };
  if (moves[event.key]) {
    moves[event.key]();
    // A kept cell stays while another is looked for; the next Enter replaces it.
    setActive(row, column);
  } else if (event.key === "Enter" || event.key === " ") {
    if (kept && kept.row === row && kept.column === column) release();
    else keep(row, column);
  } else {
    return;
  }
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") release();
  if (event.key === "/" && !event.ctrlKey && !event.target.closest("input")) {
    byId("name").closest("details").open = true;
    byId("name").focus();
    event.preventDefault();
  }
});
byId("close").addEventListener("click", () => { release(); cellElement(active.row, active.column)?.focus(); });
byId("filters").addEventListener("input", applyFilters);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(applyFilters));
byId("all").addEventListener("click", () => byId("filters").reset());
addEventListener("hashchange", () => { recallFilters(); applyFilters(); });

// ---- Begin ----
for (const row of rows)
  for (const cell of row.cells) cell.tabIndex = -1;
const recalled = recallFilters();
if (matchMedia("(max-width: 700px)").matches) {
  byId("name").closest("details").open = false;
  if (!recalled) byId("one").checked = true;
}
applyFilters();
setActive(shownRows[0] ?? 0, shownColumns[0] ?? 0, false);
