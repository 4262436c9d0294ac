"use strict";
// Search and filters over the rows of the front page; without this script all rows are shown.
const form = document.getElementById("filters");
const rows = [...document.querySelectorAll("#rows tbody tr")];
const count = document.getElementById("count");
const nothing = document.getElementById("nothing");
const choices = ["application", "modality", "table", "base"];

function holds(row, given) {
  const words = (given.get("search") || "").toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.every(word => row.dataset.search.includes(word))) return false;
  for (const name of choices) {
    const wanted = given.get(name);
    if (wanted && !row.dataset[name].split(name === "modality" ? "|" : " ").includes(wanted)) return false;
  }
  return ["implemented", "measured"].every(name => !given.has(name) || row.dataset[name] === "true");
}

function filter() {
  const given = new FormData(form);
  let shown = 0;
  for (const row of rows) {
    row.hidden = !holds(row, given);
    shown += row.hidden ? 0 : 1;
  }
  count.textContent = shown === rows.length ? rows.length + " rows" : shown + " of " + rows.length + " rows";
  nothing.hidden = shown > 0;
}

// A link to a branch of the tree opens it.
function open() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.querySelector("summary").focus();
  }
}

if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  document.addEventListener("keydown", event => {
    const typing = event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      document.getElementById("search").focus();
    }
  });
  filter();
}
addEventListener("hashchange", open);
open();
