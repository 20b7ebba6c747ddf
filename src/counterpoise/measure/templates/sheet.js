"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const fields = [...document.querySelectorAll("fieldset")];
const shelf = "counterpoise-sheet-" + data.sheet;
let state = { rater: "", at: 0, answers: {} };
let saved = true;
try {
  const kept = JSON.parse(localStorage.getItem(shelf));
  if (kept && typeof kept.answers === "object") state = { ...state, ...kept };
} catch (error) { /* no storage here: answers live until the page is closed */ }

function keep() {
  saved = false;
  try { localStorage.setItem(shelf, JSON.stringify(state)); } catch (error) { /* as above */ }
}
function answersOf(id) { return state.answers[id] || {}; }
function done(id) { return fields.every((field) => answersOf(id)[field.dataset.attribute]); }
function askedField() {
  const id = data.pictures[state.at].id;
  return fields.find((field) => !answersOf(id)[field.dataset.attribute]) || fields[fields.length - 1];
}
function show() {
  const picture = data.pictures[state.at];
  const count = data.pictures.filter((each) => done(each.id)).length;
  by("picture").src = picture.src;
  by("picture").alt = "picture " + picture.id;
  by("place").textContent = `Picture ${state.at + 1} of ${data.pictures.length} (${picture.id}); ${count} answered`;
  for (const field of fields) {
    for (const input of field.querySelectorAll("input")) {
      input.checked = answersOf(picture.id)[field.dataset.attribute] === input.value;
    }
  }
  mark();
}
function mark() {
  const asked = askedField();
  for (const field of fields) field.classList.toggle("asked", field === asked);
}
function go(to) {
  state.at = Math.max(0, Math.min(data.pictures.length - 1, to));
  keep();
  show();
}
function answer(field, value) {
  const id = data.pictures[state.at].id;
  state.answers[id] = { ...answersOf(id), [field.dataset.attribute]: value };
  keep();
  show();
}
function cell(text) { return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text; }
function csv() {
  const lines = ["id,attribute,value,rater"];
  for (const picture of data.pictures) {
    for (const field of fields) {
      const value = answersOf(picture.id)[field.dataset.attribute];
      if (value) lines.push([picture.id, field.dataset.attribute, value, state.rater].map(cell).join(","));
    }
  }
  return lines.join("\r\n") + "\r\n";
}
function download() {
  if (!state.rater.trim()) {
    by("place").textContent = "Write your name or initials first: answers of several raters are told apart by it.";
    by("rater").focus();
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `labels-${data.sheet}-${state.rater.replace(/[^A-Za-z0-9]+/g, "-")}.csv`;
  link.click();
  saved = true;
}

for (const field of fields) {
  field.addEventListener("change", (event) => answer(field, event.target.value));
}
by("questions").addEventListener("submit", (event) => event.preventDefault());
by("rater").value = state.rater;
by("rater").addEventListener("input", (event) => { state.rater = event.target.value.trim(); keep(); });
by("next").addEventListener("click", () => go(state.at + 1));
by("previous").addEventListener("click", () => go(state.at - 1));
by("open").addEventListener("click", () => {
  const at = data.pictures.findIndex((each) => !done(each.id));
  if (at >= 0) go(at);
});
by("download").addEventListener("click", download);
document.addEventListener("keydown", (event) => {
  if (event.target.id === "rater" || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "n") { go(state.at + 1); return; }
  if (event.key === "p") { go(state.at - 1); return; }
  const field = askedField();
  const input = event.key && [...field.querySelectorAll("input")].find((each) => each.dataset.key === event.key);
  if (!input) return;
  event.preventDefault();
  const last = fields.every((each) => each === field || answersOf(data.pictures[state.at].id)[each.dataset.attribute]);
  answer(field, input.value);
  if (last) go(state.at + 1);
});
window.addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
show();
