// What was called: each call as it can be made with curl and grpcurl, and its answer.
import { asCurl, asGrpcurl } from "./calls.js";
import { byId, el } from "./dom.js";

const MOST = 100;

const repeated = new Map();

function command(name, text) {
  const copy = el("button", {
    type: "button",
    class: "quiet",
    "aria-label": `Copy the ${name} command`,
    onclick: async () => {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    },
  }, "Copy");
  return el("div", { class: "command" }, el("p", {}, name, copy), el("pre", { class: name }, text));
}

function item(call) {
  const state = call.status >= 200 && call.status < 300 ? "good" : "bad";
  const contents = [
    command("curl", asCurl(call, location.origin, call.hasToken)),
    command("grpcurl", asGrpcurl(call, location.origin, call.hasToken)),
    el("p", {}, "answer"),
    el("pre", { class: "answer" }, JSON.stringify(call.answer, null, 2) ?? "none"),
  ];
  const details = el("details", {},
    el("summary", {},
      el("span", { class: "verb" }, call.verb),
      el("span", { class: "path" }, call.path),
      el("span", { class: `state ${state}` }, String(call.status || "failed")),
      el("span", { class: "time" }, `${call.milliseconds} ms`)));
  // Long answers are only laid out for somebody who looks.
  details.addEventListener("toggle", () => details.append(...contents.splice(0)), { once: true });
  return el("li", { "data-method": call.method }, details);
}

export function tell(call) {
  if (!call.isRepeated) {
    const list = byId("calls");
    list.prepend(item(call));
    while (list.children.length > MOST) list.lastChild.remove();
    return;
  }
  const before = repeated.get(call.verb + call.path);
  if (before?.querySelector("details").open) return;
  const now = item(call);
  repeated.set(call.verb + call.path, now);
  if (before) before.replaceWith(now);
  else byId("repeated").append(now);
}

/** Forgets the repeated reads, which were of another person. */
export function forget() {
  repeated.clear();
  byId("repeated").replaceChildren();
}
