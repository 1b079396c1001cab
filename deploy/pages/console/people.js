// One other person: what is between the two, and what can be done about it.
import { el } from "./dom.js";
import { STATES } from "./sentences.js";
import { COLOURS } from "./picture.js";

const ACTIONS = {
  CONNECTION_STATE_NONE: [["RequestConnection", "Ask to connect"]],
  CONNECTION_STATE_REQUEST_SENT: [["CancelConnectionRequest", "Withdraw the request"]],
  CONNECTION_STATE_REQUEST_RECEIVED: [["AcceptConnection", "Accept"], ["DeclineConnection", "Decline"]],
  CONNECTION_STATE_CONNECTED: [["RemoveConnection", "End the connection"]],
  CONNECTION_STATE_BLOCKED: [["UnblockUser", "Lift the block"]],
};

/** Returns the panel of a person. */
export function peer({ peerId, state, tags, act }) {
  const button = (key, label, onclick, more = {}) =>
    el("button", { type: "button", "data-key": key, onclick, ...more }, label);
  const actions = (ACTIONS[state] ?? []).map(([method, label]) =>
    button(method, label, () => act.change(method, peerId)));
  if (state !== "CONNECTION_STATE_BLOCKED") {
    actions.push(button("BlockUser", "Block", () => act.change("BlockUser", peerId), { class: "hard" }));
  }
  const isConnected = state === "CONNECTION_STATE_CONNECTED";
  return [
    el("h3", {}, `Person ${peerId}`, el("span", { class: "note" }, ` ${STATES[state] ?? state}`)),
    el("p", { class: "buttons" }, actions,
      button("as", "See as them", () => act.seeAs(peerId), { class: "quiet" }),
      button("close", "Close", () => act.choose(undefined), { class: "quiet" })),
    isConnected && el("p", { class: "buttons", role: "group", "aria-label": "Their tags" },
      tags.map((tag, index) => {
        const has = tag.memberIds.includes(peerId);
        return button(`tag-${tag.tagId}`, tag.name, () => act.tag(tag, peerId, !has), {
          class: `tag tag-${index % COLOURS}`,
          "aria-pressed": String(has),
        });
      })),
    isConnected && el("form", {
      class: "line",
      onsubmit: (event) => {
        event.preventDefault();
        act.newTag(new FormData(event.target).get("name"), peerId);
      },
    },
    el("label", { for: "new-tag" }, "New tag"),
    el("input", { id: "new-tag", name: "name", maxlength: 50, required: true, autocomplete: "off", "data-key": "new-tag" }),
    el("button", { type: "submit" }, "Create and give")),
  ];
}
