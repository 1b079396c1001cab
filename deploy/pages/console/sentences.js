// What the contracts say with an enum, as a sentence.

const list = new Intl.ListFormat("en", { type: "conjunction" });
const either = new Intl.ListFormat("en", { type: "disjunction" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

export function ago(time, now = Date.now()) {
  const seconds = (Date.parse(time) - now) / 1_000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

const CLAUSES = {
  AUTHOR: (w) => `Person ${w.viewer} wrote it.`,
  AUDIENCE_ALL: (w) => `The two are connected, and the post is for all connections of person ${w.author}.`,
  HAS_TAG: (w) => `Person ${w.author} has given person ${w.viewer} ${w.tags}, which the post is for.`,
  NOT_CONNECTED: (w) => `Persons ${w.viewer} and ${w.author} are not connected.`,
  PRIVATE: (w) => `The post is private: only person ${w.author} sees it.`,
  EXCLUDED: (w) => `Person ${w.author} has given person ${w.viewer} ${w.tags}, whose people do not see the post.`,
  NO_TAG: (w) => `The post is for people with certain tags, and person ${w.viewer} has none of them.`,
  DELETED: () => "The post is deleted.",
  MODERATED: () => "A service hides the post from everybody but its author.",
};

/** Returns the clause that decided, as a sentence. `names` are those of tags by their ids. */
export function because({ clause, tagIds, author, viewer, names }) {
  const tags = tagIds.map((id) => names.get(id) ? `the tag “${names.get(id)}”` : `the tag ${id}`);
  const say = CLAUSES[clause.replace("VISIBILITY_CLAUSE_", "")];
  return say ? say({ author, viewer, tags: list.format(tags) }) : clause;
}

/** Returns an audience in words. */
export function audienceOf({ kind, tagIds = [], excludedTagIds = [] }, names) {
  const named = (ids) => either.format(ids.map((id) => names.get(id) ?? `tag ${id}`));
  const without = excludedTagIds.length ? `, but not ${named(excludedTagIds)}` : "";
  switch (kind) {
    case "AUDIENCE_KIND_ALL": return `all connections${without}`;
    case "AUDIENCE_KIND_TAGS": return `${tagIds.length ? named(tagIds) : "nobody"}${without}`;
    default: return "only the author";
  }
}

export const STATES = {
  CONNECTION_STATE_NONE: "not connected",
  CONNECTION_STATE_REQUEST_SENT: "asked, and has not answered",
  CONNECTION_STATE_REQUEST_RECEIVED: "asks to connect",
  CONNECTION_STATE_CONNECTED: "connected",
  CONNECTION_STATE_BLOCKED: "blocked",
};
