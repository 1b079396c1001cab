// What a person sees: their feed, their digest, their own posts, and lists of people.
import { el } from "./dom.js";
import { ago, audienceOf, counted } from "./sentences.js";

const REASONS = {
  DIGEST_REASON_IMPORTANT: "among the most important of the week",
  DIGEST_REASON_FILLED_PLACE: "fills a free slot",
};

function post(each, { userId, names, mayAsk, act }, note) {
  const isOwn = each.authorId === userId;
  const key = `${each.authorId}-${each.postId}`;
  const button = (name, label, onclick) =>
    el("button", { type: "button", "data-key": `${name}-${key}`, class: "quiet", onclick }, label);
  return el("article", { class: "post", "data-post": each.postId },
    el("p", { class: "by" },
      isOwn ? "You" : el("button", {
        type: "button",
        class: "person",
        "data-key": `by-${key}`,
        onclick: () => act.choose(each.authorId),
      }, `Person ${each.authorId}`),
      el("time", { datetime: each.createTime }, ago(each.createTime))),
    el("p", { class: "body" }, each.body || "(photos only)"),
    el("p", { class: "about" },
      [
        each.photos.length && counted(each.photos.length, "photo"),
        each.commentCount && counted(each.commentCount, "comment"),
        isOwn && `for ${audienceOf(each.audience, names)}`,
        note,
      ].filter(Boolean).join(" · ")),
    el("p", { class: "buttons" },
      isOwn
        ? [
          button("who", "Who sees it?", () => act.whoSees(each)),
          button("why", "Why, or why not?", () => act.why(each)),
          button("delete", "Delete", () => act.remove(each)),
        ]
        : [
          mayAsk(each.authorId) && button("why", "Why do they see it?", () => act.why(each)),
          button("read", "Read up to here", () => act.markRead(each)),
        ]));
}

function posts(list, context, none) {
  return list.length ? list.map((each) => post(each, context)) : [el("p", { class: "note" }, none)];
}

export function feed(world, context) {
  return posts(world.posts, context, "The feed is empty.");
}

export function ownPosts(list, context) {
  return posts(list, context, "They have not written anything.");
}

export function digest(answer, context) {
  const day = (time) => new Date(time).toLocaleDateString("en", { weekday: "long", day: "numeric", month: "long" });
  return [
    el("p", { class: "summary" }, answer.summary || "Nothing was posted this week."),
    el("p", { class: "note" },
      `The week from ${day(answer.startTime)}. `
      + `${counted(answer.leftOutCount, "post")} left out.${answer.frozen ? " The choice is final." : ""}`),
    ...answer.items.map((item) =>
      post(item.post, context, `importance ${item.importance.toFixed(1)}, ${REASONS[item.reason] ?? ""}`)),
  ];
}

export function people(world, suggestions, { act }) {
  const group = (title, ids, say = () => "") => ids.length > 0 && el("section", { class: "group" },
    el("h3", {}, title),
    el("ul", {}, ids.map((id) => el("li", {},
      el("button", {
        type: "button",
        class: "person",
        "data-key": `${title}-${id}`,
        onclick: () => act.choose(id),
      }, `Person ${id}`),
      say(id)))));
  const mutual = new Map(suggestions.map((each) => [each.suggestedUserId, each.mutualCount]));
  return [
    group("Ask to connect", world.incoming),
    group("Were asked", world.outgoing),
    group("Blocked", world.blocked),
    group("Connected", world.connections),
    group("May be known to them", [...mutual.keys()], (id) => ` ${mutual.get(id)} in common`),
  ];
}
