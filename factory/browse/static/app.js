"use strict";
// Keys, formulas, and marking: everything works without them but the formulas' typesetting.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// ---- formulas

const MATH = {
  delimiters: [
    { left: "$$", right: "$$", display: true }, { left: "\\[", right: "\\]", display: true },
    { left: "\\(", right: "\\)", display: false }, { left: "$", right: "$", display: false },
    { left: "\\begin{align}", right: "\\end{align}", display: true },
    { left: "\\begin{align*}", right: "\\end{align*}", display: true },
    { left: "\\begin{equation}", right: "\\end{equation}", display: true },
  ],
  throwOnError: false, strict: "ignore", trust: false, maxSize: 20, maxExpand: 200,
  ignoredTags: ["script", "noscript", "style", "textarea", "pre", "code", "option"],
};
const raw = new WeakMap();

function typeset(element) {
  if (!window.renderMathInElement || raw.has(element)) return;
  const copy = element.cloneNode(true);
  raw.set(element, copy);
  // A box outside of a formula is typeset as well: so most answers are written.
  $$("mark.answer", element).forEach((mark) => {
    if (/^\\boxed\{/.test(mark.textContent)) {
      try { katex.render(mark.textContent, mark, MATH); } catch { /* it stays as it is */ }
    }
  });
  renderMathInElement(element, MATH);
}

function untypeset(element) {
  const copy = raw.get(element);
  if (copy) { element.replaceWith(copy.cloneNode(true)); }
}

function typesetAll() {
  if (document.body.classList.contains("raw")) return;
  $$(".math:not(.late)").forEach(typeset);
  $$("details[open] .math.late").forEach(typeset);
}

function toggleRaw() {
  const isRaw = document.body.classList.toggle("raw");
  $$("[data-raw]").forEach((b) => b.setAttribute("aria-pressed", String(isRaw)));
  if (isRaw) $$(".math").forEach(untypeset); else typesetAll();
}

// ---- marks of a trace

let jumped = -1;
function jump() {
  const marks = $$("details[open] .marked.late mark");
  if (!marks.length) return;
  jumped = (jumped + 1) % marks.length;
  marks.forEach((m) => m.classList.remove("here"));
  marks[jumped].classList.add("here");
  marks[jumped].scrollIntoView({ block: "center" });
}

// ---- lists

let at = -1;
function move(step) {
  const rows = $$(".rows > .row .go");
  if (!rows.length) return false;
  const focused = rows.indexOf(document.activeElement);
  at = Math.min(rows.length - 1, Math.max(0, (focused >= 0 ? focused : at) + step));
  rows[at].focus();
  rows[at].scrollIntoView({ block: "nearest" });
  return true;
}

function go(rel) {
  const link = $(`a[rel=${rel}]`);
  if (link) link.click();
}

function tick() {
  const row = document.activeElement.closest(".row");
  const box = row && $("input[type=checkbox]", row);
  if (box) box.checked = !box.checked;
}

// A key that comes while a word is on its way waits for the answer: two answers could overtake
// each other, and the page would show the older one.
let held = null;
function review(key) {
  if ($("#review .htmx-request")) { held = key; return; }
  held = null;
  const button = $(`#review button[data-key="${key}"]`);
  if (button) button.click();
}
document.addEventListener("htmx:afterRequest", () => { if (held !== null) review(held); });

const keys = {
  j: () => move(1) || go("next"),
  k: () => move(-1) || go("prev"),
  x: tick,
  t: () => { const d = $("details.thinking"); if (d) d.open = !d.open; },
  m: toggleRaw,
  n: () => { const note = $("#note"); if (note) note.focus(); },
  u: () => { const up = $("a.up"); if (up) up.click(); },
  "/": () => { const q = $("input[type=search]"); if (q) q.focus(); },
  "?": () => $("#keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form) {
    event.target.form.requestSubmit();
    return;
  }
  if (event.key === "Escape" && typing) { event.target.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  if (/^[0-3]$/.test(event.key) && $("#review")) { review(event.key); return; }
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

document.addEventListener("click", (event) => {
  const target = event.target;
  if (target.matches(".more-button")) {
    const list = target.closest("ul");
    list.classList.add("all");
    target.closest("li").remove();
  } else if (target.matches(".stop")) {
    const stretch = target.closest(".stretch");
    htmx.trigger(stretch, "htmx:abort");
    stretch.removeAttribute("hx-get");
    htmx.process(stretch);
    stretch.replaceWith(Object.assign(document.createElement("p"), { className: "soft", textContent: "Stopped." }));
  } else if (target.matches("[data-raw]")) toggleRaw();
  else if (target.matches("[data-jump]")) jump();
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-go]")) location.href = event.target.value;
  if (event.target.id === "mark-all") {
    $$(".rows input[type=checkbox]").forEach((box) => { box.checked = event.target.checked; });
  }
});

document.addEventListener("toggle", (event) => {
  if (event.target.open) typesetAll();
}, true);

document.addEventListener("htmx:responseError", (event) => {
  $("#said").textContent = event.detail.xhr.responseText.slice(0, 300) || "It did not work.";
});
document.addEventListener("htmx:sendError", () => {
  $("#said").textContent = "The server does not answer: is `factory browse` still running?";
});
document.addEventListener("htmx:afterSettle", typesetAll);

// On a narrow screen the facets are folded at first.
if (matchMedia("(max-width: 860px)").matches) $$(".side-fold").forEach((d) => { d.open = false; });
typesetAll();
