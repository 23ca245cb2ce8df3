// Keeps the page up to date and sends its forms without leaving it. The page works without this file, too.
"use strict";

const main = document.querySelector("main");
const logList = document.getElementById("log");
const pulse = document.getElementById("pulse");
const toast = document.getElementById("toast");
const SHOWN = 120;
let timer;
let toastTimer;
let polling = false;
let askedAgain = false;

/** Show times in the visitor's own zone, to the millisecond in the log. */
function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const clock = at.toLocaleTimeString("en-GB");
    time.textContent = time.closest(".event") ? `${clock}.${String(at.getMilliseconds()).padStart(3, "0")}` : clock;
  }
}

/** Add new lines on top, drop those that were cleared on the server or have become too many. */
function updateLog(html, first) {
  const template = document.createElement("template");
  template.innerHTML = html;
  localise(template.content);
  for (const line of template.content.children) line.classList.add("new");
  logList.prepend(template.content);
  [...logList.children].forEach((line, index) => {
    if (index >= SHOWN || Number(line.dataset.id) < first) line.remove();
  });
}

/** Replace a panel if it changed, and keep the focus where it was. */
function updatePanel(id, html) {
  const panel = document.getElementById(id);
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const input of template.content.querySelectorAll("[name=csrfmiddlewaretoken]")) input.remove();
  localise(template.content);
  const fresh = template.innerHTML;
  if (panel.dataset.shown === fresh) return;
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : "";
  panel.dataset.shown = fresh;
  panel.replaceChildren(template.content);
  if (focused) document.getElementById(focused)?.focus();
}

async function poll() {
  askedAgain = polling; // the answer under way may be older than what was just done
  if (polling) return;
  polling = true;
  clearTimeout(timer);
  try {
    const after = logList.firstElementChild?.dataset.id ?? 0;
    const response = await fetch(`${main.dataset.live}?after=${after}`);
    if (!response.ok) throw new Error(response.statusText);
    const news = await response.json();
    updateLog(news.events, news.first);
    updatePanel("outbox", news.outbox);
    updatePanel("office", news.office);
    setPulse("live", false);
  } catch {
    setPulse("connection lost", true);
  } finally {
    polling = false;
    timer = setTimeout(poll, askedAgain ? 0 : document.hidden ? 5000 : 1000);
  }
}

function setPulse(text, lost) {
  pulse.hidden = false;
  if (pulse.textContent !== text) pulse.textContent = text;
  pulse.classList.toggle("lost", lost);
}

function say(text) {
  clearTimeout(toastTimer);
  toast.textContent = text;
  toastTimer = setTimeout(() => { toast.textContent = ""; }, 4000);
}

function csrfToken() {
  return document.querySelector("[name=csrfmiddlewaretoken]").value;
}

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(event.target, event.submitter);
  const headers = { Accept: "application/json", "X-CSRFToken": csrfToken() };
  const pressed = fetch(event.target.action, { method: "POST", body: data, headers });
  poll();
  try {
    const response = await pressed;
    say((await response.json()).message);
  } catch {
    say("The shop did not answer.");
  }
  poll();
});

/** Mark every line about the invocation or the task that the pointer is on. */
logList.addEventListener("pointerover", (event) => {
  const { task, invocation } = event.target.closest(".event")?.dataset ?? {};
  for (const line of logList.children) {
    const same = (task && line.dataset.task === task) || (invocation && line.dataset.invocation === invocation);
    line.classList.toggle("same", Boolean(same));
  }
});
logList.addEventListener("pointerleave", () => {
  for (const line of logList.children) line.classList.remove("same");
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

localise(document);
if (toast.textContent) say(toast.textContent.trim());
poll();
