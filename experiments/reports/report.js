"use strict";
// The filter. Its state is the address, #verdict=contradicted&said=paper&words=lstm, so that it can be shared and gone
// back from; any other fragment is a place in the page and leaves the filter as it is.
(() => {
  const rows = [...document.querySelectorAll("[data-claim]")];
  const groups = document.querySelectorAll(".overview tbody");
  const form = document.getElementById("filter");
  const chips = [...form.querySelectorAll("[data-key]")];
  const words = document.getElementById("words");
  const shown = document.getElementById("shown");
  const text = new Map(rows.map((row) => [row, `${row.textContent} ${row.dataset.words}`.toLowerCase()]));
  let wanted = new URLSearchParams();

  const matches = (row, ...keys) =>
    keys.every((key) => !wanted.has(key) || wanted.getAll(key).includes(row.dataset[key])) &&
    (wanted.get("words") ?? "").toLowerCase().split(/\s+/).every((word) => text.get(row).includes(word));

  function show() {
    for (const row of rows) {
      row.hidden = !matches(row, "verdict", "said");
      document.getElementById(row.dataset.claim).hidden = row.hidden;
    }
    for (const group of groups) group.hidden = group.querySelectorAll("[data-claim]:not([hidden])").length === 0;
    for (const chip of chips) {
      const { key, value } = chip.dataset;
      const other = key === "verdict" ? "said" : "verdict";
      const count = rows.filter((row) => row.dataset[key] === value && matches(row, other)).length;
      chip.setAttribute("aria-pressed", wanted.has(key, value));
      chip.querySelector(".count").textContent = count;
    }
    const count = rows.filter((row) => !row.hidden).length;
    shown.textContent = count === rows.length ? `all ${count} claims` : `${count} of ${rows.length} claims`;
    if (document.activeElement !== words) words.value = wanted.get("words") ?? "";
  }

  function follow() {
    const fragment = decodeURIComponent(location.hash.slice(1));
    const place = fragment && document.getElementById(fragment);
    if (!place) wanted = new URLSearchParams(location.hash.slice(1));
    else if (place.hidden) wanted = new URLSearchParams();
    show();
    if (place) place.scrollIntoView();
  }

  function go(replace) {
    const address = wanted.size ? `#${wanted}` : location.href.split("#")[0];
    history[replace ? "replaceState" : "pushState"](null, "", address);
    show();
  }

  form.addEventListener("click", ({ target }) => {
    const chip = target.closest("[data-key]");
    if (!chip) return;
    const { key, value } = chip.dataset;
    if (wanted.has(key, value)) wanted.delete(key, value);
    else wanted.append(key, value);
    go(false);
  });
  words.addEventListener("input", () => {
    if (words.value.trim()) wanted.set("words", words.value.trim());
    else wanted.delete("words");
    go(true);
  });
  form.addEventListener("reset", () => {
    wanted = new URLSearchParams();
    go(false);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("popstate", follow);
  form.hidden = false;
  follow();
})();
