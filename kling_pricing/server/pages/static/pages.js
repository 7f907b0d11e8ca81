// Updates the parts of an open page that have the attribute data-live when the server says that something changed.
"use strict";

const status = document.getElementById("live-status");
let isLoading = false;
let isDue = false;

function say(text) {
  if (status !== null) status.textContent = text;
}

function isInUse(part) {
  return part.contains(document.activeElement) && document.activeElement !== part;
}

function openDetails(part) {
  return new Set([...part.querySelectorAll("details[open][id]")].map((each) => each.id));
}

function replace(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return false;
  const opened = openDetails(part);
  part.replaceChildren(...fresh.childNodes);
  for (const each of part.querySelectorAll("details[id]")) each.open = each.open || opened.has(each.id);
  return true;
}

async function refresh() {
  if (isLoading || document.hidden) {
    isDue = true;
    return;
  }
  isLoading = true;
  isDue = false;
  try {
    const answer = await fetch(location.href, {
      headers: { "x-kling-pricing-live": "1" },
      redirect: "manual",
      credentials: "same-origin",
    });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    let hasChanged = false;
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const fresh = page.getElementById(part.id);
      if (fresh === null) continue;
      if (isInUse(part)) isDue = true;
      else hasChanged = replace(part, fresh) || hasChanged;
    }
    if (hasChanged) say(`Updated at ${new Date().toISOString().slice(11, 19)}.`);
  } catch {
    say("The server cannot be reached.");
  } finally {
    isLoading = false;
  }
}

if (document.querySelector("[data-live]") !== null && "EventSource" in window) {
  const source = new EventSource("/live");
  source.addEventListener("open", () => say("Live."));
  source.addEventListener("changed", refresh);
  source.addEventListener("ended", () => {
    source.close();
    say("Your session has ended. Load the page again to sign in.");
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) say("Load the page again to see changes.");
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && isDue) refresh();
  });
  document.addEventListener("focusout", () => {
    if (isDue) setTimeout(refresh, 0);
  });
  addEventListener("pagehide", () => source.close());
}
