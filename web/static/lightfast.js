// What pages do by themselves: parts that are alive are asked for anew while somebody looks, the rest is plain HTML.
"use strict";
(() => {
  const FIRST = 2, SLOWEST = 120; // seconds until the first look, and between two at most
  let failures = 0, timer;

  const wait = seconds => { clearTimeout(timer); timer = setTimeout(look, 1000 * Math.min(SLOWEST, seconds)); };

  // The server says when to look again, by how many look; nothing is asked for in a tab that nobody sees.
  function look() {
    clearTimeout(timer);
    if (document.hidden) return;
    for (const part of document.querySelectorAll("[data-live]")) htmx.trigger(part, "look");
  }
  document.addEventListener("visibilitychange", look);
  document.addEventListener("DOMContentLoaded", () => wait(FIRST));

  addEventListener("htmx:afterRequest", event => {
    const { xhr, successful, target } = event.detail;
    if (!target.closest("[data-live]")) return;
    failures = successful ? 0 : failures + 1;
    wait((Number(xhr.getResponseHeader("X-Look-Every")) || FIRST) * 2 ** failures);
    document.body.classList.toggle("is-away", failures > 1);
  });

  // A manifest that is dropped is as one that was chosen, and its plan is shown at once.
  const drop = document.getElementById("drop");
  if (drop) {
    const input = drop.querySelector("input"), plan = document.getElementById("plan"), show = () => {
      if (input.form.reportValidity()) document.getElementById("plan-it").click();
    };
    for (const name of ["dragover", "dragleave", "drop"]) drop.addEventListener(name, event => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name !== "drop" || !event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      show();
    });
    input.addEventListener("change", show);
    // What was planned is not what would be made any more.
    input.form.addEventListener("input", () => plan.replaceChildren());
  }

  // A form that was sent is not sent twice by a second click.
  addEventListener("submit", event => {
    const button = event.submitter;
    if (button && event.target.method === "post") setTimeout(() => { button.disabled = true; }, 0);
  });
  addEventListener("pageshow", event => { if (event.persisted) for (const each of document.querySelectorAll("button[disabled]")) each.disabled = false; });
})();
