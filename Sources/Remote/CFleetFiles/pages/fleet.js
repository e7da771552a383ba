// Keeps a page as new as what the service knows: where an event says that something has changed, the page is fetched anew and what
// lies in #live is put in place. Without this script the pages are whole, and as old as they are.
"use strict";

(() => {
  const live = document.getElementById("live");
  const sign = document.getElementById("live-sign");
  if (!live || !window.EventSource) return;
  const host = live.dataset.host || "";
  let timer = 0;
  let isFetching = false;
  let isStale = false;

  // What somebody is typing, or has opened, is not taken away.
  const isInUse = () => {
    const field = document.activeElement;
    return field && live.contains(field) && field.matches("input, select, textarea");
  };

  async function renew() {
    timer = 0;
    if (isFetching || isInUse()) { isStale = true; return; }
    isFetching = true;
    isStale = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.redirected) { location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById("live");
      if (!next || isInUse()) { isStale = true; return; }
      const open = new Set([...live.querySelectorAll("details[open][id]")].map((one) => one.id));
      const focus = document.activeElement && live.contains(document.activeElement) ? document.activeElement.id : "";
      const before = new Map([...live.querySelectorAll("tr[id]")].map((row) => [row.id, row.dataset.state]));
      live.replaceChildren(...next.childNodes);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      for (const row of live.querySelectorAll("tr[id]")) {
        if (before.has(row.id) && before.get(row.id) !== row.dataset.state) row.classList.add("changed");
      }
      if (focus) document.getElementById(focus)?.focus();
      document.title = page.title;
    } finally {
      isFetching = false;
      if (isStale) soon();
    }
  }

  // The first of several events is shown at once, those that follow it together.
  let renewed = 0;
  function soon() {
    if (timer) return;
    timer = setTimeout(() => { renewed = Date.now(); renew(); }, Date.now() - renewed > 500 ? 0 : 150);
  }

  // How far an image has got needs no page.
  const takeImage = (event) => {
    let image = null;
    try { image = JSON.parse(event.data); } catch { return; }
    if (image.host !== host) return;
    const bar = document.querySelector("#image-" + Number(image.number) + " progress");
    if (!bar || image.state !== "running") { soon(); return; }
    bar.max = Math.max(image.total_bytes, 1);
    bar.value = image.done_bytes;
    const said = bar.parentElement.querySelector("output");
    if (said) said.textContent = Math.floor(100 * image.done_bytes / bar.max) + " %";
  };

  const events = new EventSource("/events");
  const say = (text, kind) => { if (sign) { sign.textContent = text; sign.className = "live " + kind; } };
  const take = (event) => {
    if (host) {
      try { if (JSON.parse(event.data).host && JSON.parse(event.data).host !== host) return; } catch { /* then it is for all */ }
    }
    soon();
  };
  for (const kind of ["state", "finding", "acknowledgement", "fleet", "problem"]) events.addEventListener(kind, take);
  events.addEventListener("image", takeImage);
  events.onopen = () => { say("live", "on"); soon(); };
  events.onerror = () => say("no connection to the service; what stands here is old", "off");
  // Ages and heartbeats go on without events.
  setInterval(() => { if (!document.hidden) soon(); }, 5000);
  document.addEventListener("focusout", () => { if (isStale) soon(); });
  for (const select of document.querySelectorAll("select[data-submit]")) {
    select.addEventListener("change", () => select.form.requestSubmit());
  }
})();
