// What pages do by themselves: parts that are alive are asked for anew while somebody looks, the rest is plain HTML.
"use strict";
(() => {
  const LEAST = 2, SLOWEST = 120; // seconds between two looks
  let every = LEAST, failures = 0, timer;

  // The server says how often, by how many look; nothing is asked for in a tab that nobody sees.
  function look() {
    clearTimeout(timer);
    if (document.hidden) return;
    for (const part of document.querySelectorAll("[data-live]")) htmx.trigger(part, "look");
    timer = setTimeout(look, every * 1000);
  }
  document.addEventListener("visibilitychange", look);
  document.addEventListener("DOMContentLoaded", () => { timer = setTimeout(look, LEAST * 1000); });

  addEventListener("htmx:afterRequest", event => {
    const { xhr, successful, elt } = event.detail;
    if (!elt.closest("[data-live]")) return;
    failures = successful ? 0 : failures + 1;
    const told = Number(xhr.getResponseHeader("X-Look-Every")) || LEAST;
    every = Math.min(SLOWEST, told * 2 ** failures);
    document.body.classList.toggle("away", failures > 1);
  });

  // A manifest that is dropped, or chosen, is sent as it is; what comes back is the next page.
  const drop = document.querySelector("[data-upload]");
  if (drop) {
    const input = drop.querySelector("input[type=file]"), bar = drop.querySelector("progress"), told = drop.querySelector("[role=status]");
    const send = file => {
      const request = new XMLHttpRequest();
      request.open("POST", `${drop.dataset.upload}?name=${encodeURIComponent(file.name)}`);
      request.setRequestHeader("X-Form-Token", drop.dataset.formToken);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      bar.hidden = false;
      told.textContent = `Sending ${file.name} …`;
      request.upload.onprogress = event => { if (event.lengthComputable) bar.value = event.loaded / event.total; };
      request.onload = () => {
        if (request.status === 200) { location.assign(request.responseText); return; }
        bar.hidden = true;
        told.textContent = request.status === 401 ? "You are logged out. Open the page again." : request.responseText;
      };
      request.onerror = () => { bar.hidden = true; told.textContent = "The connection broke. Nothing was spent; send it again."; };
      request.send(file);
    };
    input.addEventListener("change", () => { if (input.files.length) send(input.files[0]); });
    for (const name of ["dragover", "dragleave", "drop"]) drop.addEventListener(name, event => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    });
  }

  // A form that was sent is not sent twice by a second click.
  addEventListener("submit", event => {
    const button = event.submitter;
    if (button && event.target.method === "post") setTimeout(() => { button.disabled = true; }, 0);
  });
  addEventListener("pageshow", event => { if (event.persisted) for (const each of document.querySelectorAll("button[disabled]")) each.disabled = false; });
})();
