// A draft: its text, its audience, and who would see it.
import { el } from "./dom.js";
import { COLOURS } from "./picture.js";
import { counted } from "./sentences.js";

const KINDS = [
  ["AUDIENCE_KIND_ALL", "All connections"],
  ["AUDIENCE_KIND_TAGS", "People with tags"],
  ["AUDIENCE_KIND_PRIVATE", "Only me"],
];
const SHOWN = 40;

/** Returns the contents of the form. */
export function draft(tags, chosen) {
  const boxes = (name, title, ids) => el("fieldset", { "data-of": name },
    el("legend", {}, title),
    tags.map((tag, index) => el("label", { class: `tag tag-${index % COLOURS}` },
      el("input", {
        type: "checkbox",
        name,
        value: tag.tagId,
        checked: ids.includes(tag.tagId),
        "data-key": `${name}-${tag.tagId}`,
      }),
      tag.name)));
  return [
    el("label", { for: "text" }, "Text"),
    el("textarea", { id: "text", name: "body", rows: 3, maxlength: 10_000, "data-key": "text" }, chosen.body),
    el("fieldset", {},
      el("legend", {}, "Audience"),
      KINDS.map(([kind, label]) => el("label", {},
        el("input", { type: "radio", name: "kind", value: kind, checked: chosen.audience.kind === kind, "data-key": kind }),
        label))),
    tags.length > 0 && boxes("tagIds", "Shown to", chosen.audience.tagIds),
    tags.length > 0 && boxes("excludedTagIds", "Never shown to", chosen.audience.excludedTagIds),
    el("output", { id: "preview", "aria-live": "polite" }),
    el("p", { class: "buttons" },
      el("button", { type: "submit", class: "main", "data-key": "publish" }, "Publish"),
      el("button", { type: "reset", class: "quiet", "data-key": "clear" }, "Clear")),
  ];
}

/** Returns what is in the form; without the tags that its kind of audience has no use for. */
export function chosenIn(form) {
  const data = new FormData(form);
  const kind = data.get("kind");
  return {
    body: data.get("body"),
    audience: {
      kind,
      tagIds: kind === "AUDIENCE_KIND_TAGS" ? data.getAll("tagIds") : [],
      excludedTagIds: kind === "AUDIENCE_KIND_PRIVATE" ? [] : data.getAll("excludedTagIds"),
    },
  };
}

export const EMPTY = {
  body: "",
  audience: { kind: "AUDIENCE_KIND_ALL", tagIds: [], excludedTagIds: [] },
};

/** Returns a preview as a sentence. */
export function previewed({ totalCount, viewerIds }) {
  if (totalCount === 0) return "Nobody else would see it.";
  const more = totalCount > SHOWN ? ", …" : "";
  return `${counted(totalCount, "person", "people")} would see it: ${viewerIds.slice(0, SHOWN).join(", ")}${more}`;
}
