// SPDX-License-Identifier: GPL-2.0-only
//
// Runs inside the page of `minivmx matrix --html`, as its user: with a mouse, by touch, with the keyboard. `variant` and `errors`
// are set before the page's own script. Writes test lines into the document, where check_page.py finds them.
"use strict";

(async () => {
  const lines = [];
  const check = (what, works, why = "") => lines.push(works ? `ok - ${variant}: ${what}` : `not ok - ${variant}: ${what}: ${why}`);
  const $ = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const isShown = (element) => element.getClientRects().length > 0;
  const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
  const rows = all("tr.control"), heads = all("tr.cpus th.cpu");
  const cell = (slug, column) => document.getElementById(slug).cells[column + 1];
  const shownRows = () => rows.filter(isShown), shownHeads = () => heads.filter(isShown);
  const panelText = () => $("#detail").innerText;
  const narrow = matchMedia("(max-width: 1020px)").matches, phone = matchMedia("(max-width: 700px)").matches;

  const fill = async (id, text) => {
    const input = document.getElementById(id);
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await pause();
  };
  const reset = async () => { $("#filters").reset(); await pause(); };
  const press = async (key, options = {}) => {
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...options }));
    await pause();
  };
  const hover = async (element) => {
    element.dispatchEvent(new PointerEvent("pointerover", { pointerType: "mouse", bubbles: true }));
    await pause();
  };

  // How readable text is: WCAG 2.1, contrast ratio.
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map(Number).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const colorOf = (name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(${name})`;
    const color = getComputedStyle(probe).color;
    probe.remove();
    return color;
  };

  async function everything() {
    await reset();
    check("every control has a row, every CPU a column", rows.length > 100 && heads.length > 60 &&
      rows.every((row) => row.cells.length === heads.length + 1), `${rows.length} rows, ${heads.length} columns`);
    check("each cell is in one state", all("td.cell").every((td) =>
      ["required", "used", "available", "absent", "missing", "unknown"].filter((state) => td.classList.contains(state)).length === 1));
    check("it asks for nothing else", performance.getEntriesByType("resource").length === 0,
      performance.getEntriesByType("resource").map((entry) => entry.name).join(" "));
    check("it is not wider than the window", document.documentElement.scrollWidth <= innerWidth,
      `${document.documentElement.scrollWidth} > ${innerWidth}`);
    const box = cell("hlt-exiting", 0).getBoundingClientRect();
    check("cells can be hit", phone ? Math.min(box.width, box.height) >= 24 : Math.min(box.width, box.height) >= 14, `${box.width} x ${box.height}`);
    const head = $("tr.generations").getBoundingClientRect(), labels = $("tr.cpus th.cpu").getBoundingClientRect();
    check("headings don't cover each other", all("tr.generations .upright").filter(isShown).every((text) =>
      text.getBoundingClientRect().bottom <= labels.top + 1 && text.getBoundingClientRect().top >= head.top - 1));
  }

  async function colors() {
    const ground = colorOf("--page"), weak = ["--text", "--soft"].filter((name) => contrast(colorOf(name), ground) < 4.5);
    check("text can be read", weak.length === 0, weak.join(" "));
    const faint = ["--required", "--used", "--available", "--missing", "--unknown"].filter((name) => contrast(colorOf(name), ground) < 3);
    check("marks can be seen", faint.length === 0, faint.join(" "));
    check("the colors are those of the scheme", (luminance(ground) < 0.2) === (variant === "dark"), ground);
  }

  async function filters() {
    await fill("name", "ept");
    check("a name chooses controls", isShown($("#enable-ept")) && !isShown($("#hlt-exiting")) && !isShown($("#nmi-exiting")));
    check("words without controls go, too", !all("tr.heading").some((row) => isShown(row) && row.innerText.startsWith("Pin")));
    await fill("name", "CPU_BASED_HLT_EXITING");
    check("a constant chooses its control", shownRows().length === 1 && isShown($("#hlt-exiting")), `${shownRows().length} rows`);
    await fill("name", "");
    await fill("cpu", "haswell");
    check("a name chooses CPUs", shownHeads().length > 2 && shownHeads().length < heads.length / 2 &&
      isShown(cell("enable-ept", heads.indexOf(shownHeads()[0]))), `${shownHeads().length} columns`);
    check("a column is hidden from top to bottom", rows.every((row) => !isShown(row.cells[1])) && !isShown(heads[0]));
    await fill("cpu", "no such cpu");
    check("nothing found is said", isShown($("#none")) && !isShown($("#matrix")));
    $("#all").click();
    await pause();
    check("and undone by a button", shownRows().length === rows.length && shownHeads().length === heads.length);
    $("#fields input:nth-of-type(1)").click();
    await pause();
    check("a word chooses its controls", shownRows().length === 5, `${shownRows().length} rows`);
    await reset();
    $("#one").click();
    await pause();
    const names = all("tr.generations th.generation").filter(isShown).map((th) => th.innerText + th.classList.contains("emulated"));
    check("one CPU for each generation", shownHeads().length === names.length && new Set(names).size === names.length,
      `${shownHeads().length} CPUs, ${new Set(names).size} generations`);
    await reset();
    $("#differ").click();
    await pause();
    check("only controls that differ", !isShown($("#hlt-exiting")) && isShown($("#enable-ept")));
    check("the address keeps the filters", location.hash.includes("differ=1"), location.hash);
    await reset();
  }

  async function pointing() {
    const one = cell("cr3-load-exiting", 5), other = cell("enable-ept", 6);
    await hover(one);
    check("hovering explains", narrow || panelText().startsWith("CR3-load exiting"), panelText().slice(0, 60));
    one.click();
    await pause();
    check("a click explains and keeps", isShown($("#panel")) && one.classList.contains("kept") && panelText().startsWith("CR3-load exiting"));
    check("the rules that acted are told", panelText().includes("ept-cr3-invlpg") && panelText().includes("setup_vmcs_config"), panelText());
    check("the section of the manual is told", panelText().includes("25.6.2"));
    await hover(other);
    check("what is kept stays", panelText().startsWith("CR3-load exiting"));
    await press("Escape");
    check("Esc lets it go", !$(".kept") && (!narrow || !isShown($("#panel"))));
    cell("enable-ept", -1).click();
    await pause();
    check("a control's name tells of all CPUs", panelText().startsWith("Enable EPT") && /\d+ used/.test(panelText()), panelText().slice(0, 200));
    heads[7].click();
    await pause();
    check("a CPU's name tells of all controls", /\d+ required/.test(panelText()) && panelText().includes("InstLatx64"), panelText().slice(0, 200));
    if (narrow) {
      $("#close").click();
      await pause();
      check("the sheet can be closed", !isShown($("#panel")));
    }
    await press("Escape");
  }

  async function keyboard() {
    check("Tab finds one cell of the table", all("#matrix [tabindex='0']").length === 1, all("#matrix [tabindex='0']").length);
    $("#matrix [tabindex='0']").focus();
    await press("Home", { ctrlKey: true });
    const first = document.activeElement;
    await press("ArrowRight");
    await press("ArrowDown");
    check("arrows move", document.activeElement === rows[1].cells[1], document.activeElement.outerHTML);
    check("focus explains", panelText().startsWith("NMI exiting"), panelText().slice(0, 40));
    check("a cell says what it is", /^NMI exiting, .*: required, on$/.test(document.activeElement.getAttribute("aria-label")),
      document.activeElement.getAttribute("aria-label"));
    await press("End", { ctrlKey: true });
    const last = document.activeElement, box = last.getBoundingClientRect();
    check("End goes to the last", last === rows.at(-1).cells[heads.length]);
    check("and it is in sight", document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === last);
    await press("Enter");
    check("Enter keeps", last.classList.contains("kept"));
    await press("Escape");
    for (let i = 0; i < 4; i++) await press("PageUp");
    const up = document.activeElement.getBoundingClientRect();
    check("behind the headings nothing hides", document.elementFromPoint(up.x + up.width / 2, up.y + up.height / 2) === document.activeElement);
    await press("Home", { ctrlKey: true });
    check("Home goes to the first", document.activeElement === first && first === rows[0].cells[0]);
    await press("/");
    check("/ searches", document.activeElement === $("#name"));
    await fill("name", "monitor");
    $("#matrix [tabindex='0']").focus();
    await press("ArrowDown");
    check("arrows pass over what is hidden", isShown(document.activeElement), document.activeElement.outerHTML.slice(0, 80));
    await reset();
  }

  try {
    for (const part of [everything, colors, filters, pointing, keyboard])
      await part();
  } catch (error) {
    check("the check itself", false, `${error.stack}`);
  }
  check("no error was raised", errors.length === 0, errors.join("; "));
  const result = document.body.appendChild(document.createElement("pre"));
  result.id = "test-lines";
  result.textContent = lines.map((line) => line.replace(/\s+/g, " ")).join("\n");
})();
