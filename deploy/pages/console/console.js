// The console: one person's world, what can be done in it, and the calls behind that.
import { chosenIn, draft, EMPTY, previewed } from "./audience.js";
import { Gateway, newRequestId, Refusal } from "./calls.js";
import { byId, el, show } from "./dom.js";
import { forget, tell } from "./log.js";
import { peer } from "./people.js";
import { COLOURS, draw, followKeys } from "./picture.js";
import { digest, feed, ownPosts, people } from "./reading.js";
import { because, counted } from "./sentences.js";
import { acquaintances, changes, MOST_DRAWN, read } from "./world.js";

// Services let a user read their feed once a second; this leaves room for what somebody does.
const LIVE_MILLISECONDS = 4_000;
const TYPING_MILLISECONDS = 250;
const FIRST_PERSON = "17";
const MOST_EVENTS = 50;
const MOST_PREVIEWED = 1_000;
const TABS = [
  ["feed", "Feed"],
  ["digest", "This week"],
  ["own", "Own posts"],
  ["people", "People"],
];

const state = {
  world: undefined,
  knows: new Map(),
  tab: "feed",
  // What the tabs other than the feed have read.
  digest: undefined,
  own: undefined,
  suggestions: [],
  chosen: undefined,
  connection: undefined,
  draft: EMPTY,
  lit: undefined,
  why: undefined,
  // The post about whose viewers somebody asks, until they choose one.
  asking: undefined,
  isLive: true,
  // The user of the token, if there is one and it is a user's.
  subject: "",
};
let gateway;
// Apart, so that a refresh that begins meanwhile keeps nobody from another person.
let opening = 0;
let reading = 0;
let previewing = 0;
let typing;

const me = () => state.world.userId;
const names = () => new Map(state.world.tags.map(({ tagId, name }) => [tagId, name]));

// What is shown --------------------------------------------------------------------------------

const act = { choose, seeAs, change, tag, newTag, why, whoSees, remove, markRead };

function showTabs() {
  const { unreadCount, more } = state.world.unread;
  show(byId("tabs"), TABS.map(([name, label]) => el("button", {
    type: "button",
    role: "tab",
    id: `tab-${name}`,
    "data-key": `tab-${name}`,
    "aria-selected": String(state.tab === name),
    "aria-controls": "list",
    tabindex: state.tab === name ? 0 : -1,
    onclick: () => openTab(name),
  },
  label,
  name === "feed" && unreadCount > 0 && el("span", { class: "count" },
    `${unreadCount}${more ? "+" : ""}`, el("span", { class: "unseen" }, " unread")))));
  byId("list").setAttribute("aria-labelledby", `tab-${state.tab}`);
}

function showList() {
  const mayAsk = (authorId) => !state.subject || state.subject === authorId;
  const context = { userId: me(), names: names(), mayAsk, act };
  const contents = {
    feed: () => feed(state.world, context),
    digest: () => state.digest && digest(state.digest, context),
    own: () => state.own && ownPosts(state.own, context),
    people: () => people(state.world, state.suggestions, context),
  };
  show(byId("list"), contents[state.tab]() ?? el("p", { class: "note" }, "Reading …"));
}

function showPicture() {
  const { world, chosen, lit, why: answer } = state;
  const drawn = world.connections.slice(0, MOST_DRAWN);
  const asked = [chosen, answer?.author, answer?.viewer];
  const strangers = new Set(asked.filter((id) => id && id !== me() && !drawn.includes(id)));
  draw(byId("picture"), {
    userId: me(),
    drawn,
    strangers: [...strangers],
    knows: state.knows,
    tags: world.tags,
    chosen,
    lit,
    why: answer,
    choose,
  });
  const all = counted(world.connections.length, "connection");
  byId("caption").textContent = world.connections.length > MOST_DRAWN || world.hasMore
    ? `The newest ${Math.min(MOST_DRAWN, world.connections.length)} of ${world.hasMore ? "more than " : ""}${all}.`
    : `${all}. Lines join people who know each other. Choose one to act.`;
  const hasDecided = (each) => answer?.author === me() && answer.tagIds.includes(each.tagId);
  show(byId("legend"), world.tags.map((each, index) =>
    el("li", { class: `tag-${index % COLOURS}${hasDecided(each) ? " decided" : ""}` },
      `${each.name} (${each.memberIds.length})`)));
}

function showWhy() {
  const panel = byId("why");
  const { why: answer, asking } = state;
  panel.hidden = !answer && !asking;
  if (asking) {
    show(panel,
      el("p", {}, "Whose eyes? Choose somebody in the picture, or name them:"),
      el("form", {
        class: "line",
        onsubmit: (event) => {
          event.preventDefault();
          explain(asking, new FormData(event.target).get("viewer"));
        },
      },
      el("label", { for: "viewer" }, "Viewer"),
      el("input", { id: "viewer", name: "viewer", inputmode: "numeric", pattern: "[0-9]{1,19}", required: true, autocomplete: "off", "data-key": "viewer" }),
      el("button", { type: "submit" }, "Ask"),
      el("button", { type: "button", class: "quiet", onclick: endWhy }, "Cancel")));
  } else if (answer) {
    show(panel,
      el("p", { class: "verdict" },
        el("strong", {}, `Person ${answer.viewer} ${answer.visible ? "sees" : "does not see"} this post. `),
        because({ ...answer, names: answer.author === me() ? names() : new Map() })),
      el("blockquote", {}, answer.body),
      el("p", { class: "buttons" },
        el("button", { type: "button", class: "quiet", "data-key": "end-why", onclick: endWhy }, "Close")));
  }
}

function showPeer() {
  const panel = byId("peer");
  panel.hidden = !state.connection;
  if (state.connection) {
    show(panel, peer({ ...state.connection, tags: state.world.tags, act }));
  }
}

function showDraft() {
  show(byId("write"), draft(state.world.tags, state.draft));
}

function say(events) {
  const list = byId("events");
  const now = new Date();
  for (const text of events) {
    list.prepend(el("li", {},
      el("time", { datetime: now.toISOString() }, now.toLocaleTimeString("en-GB")), text));
  }
  while (list.children.length > MOST_EVENTS) list.lastChild.remove();
}

function showStatus() {
  const { connections, unread } = state.world;
  const text = `Person ${me()}: ${counted(connections.length, "connection")}, `
    + `${counted(unread.unreadCount, "unread post")}.`;
  // A screen reader speaks whatever is written here.
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function showAll() {
  byId("person").value = me();
  document.title = `Person ${me()} – Kith console`;
  showStatus();
  showTabs();
  showList();
  showPicture();
  showPeer();
  showWhy();
  showDraft();
}

// What is read ---------------------------------------------------------------------------------

/** Does what somebody asks for, and tells them when it is refused. */
async function attempt(work) {
  byId("alert").hidden = true;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) askForToken();
    byId("alert").textContent = error.message;
    byId("alert").hidden = false;
    return undefined;
  }
}

const readSoFar = () => JSON.stringify([state.world, state.digest, state.own]);

/** Reads the world again, and shows what is not as it was. */
async function refresh(options) {
  const number = ++reading;
  const before = state.world;
  const shown = readSoFar();
  const after = await read(gateway, me(), options);
  // Somebody has gone on to another person, or a later reading has begun.
  if (number !== reading || state.world !== before) return;
  state.world = after;
  showStatus();
  say(changes(before, after));
  // Their posts need not be among those of the feed that are in the world.
  if (state.tab === "digest" || state.tab === "own") await readTab({ isRepeated: true });
  if (state.world !== after || readSoFar() === shown) return;
  if (state.tab === "people") await readTab({ isRepeated: true });
  if (String(before.connections) !== String(after.connections)) await meet();
  if (state.chosen) await readPeer({ isRepeated: true });
  showTabs();
  showList();
  showPicture();
  showPeer();
  if (JSON.stringify(before.tags) !== JSON.stringify(after.tags)) showDraft();
  if (state.lit) await preview({ isRepeated: true });
  if (state.why) await explain(state.why.post, state.why.viewer, { isRepeated: true });
}

/** Reads who knows whom. The picture does without what is refused. */
async function meet() {
  try {
    state.knows = await acquaintances(gateway, state.world, state.knows);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
}

async function readTab(options) {
  const userId = me();
  const call = (method, request) => gateway.call(method, { userId, ...request }, options);
  // Somebody may have gone on to another person meanwhile.
  const keep = (found) => userId === me() && Object.assign(state, found);
  if (state.tab === "digest") {
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    keep({ digest: await call("GetDigest", { timeZone, includeOwnPosts: true }) });
  }
  if (state.tab === "own") keep({ own: (await call("ListPosts", { authorId: userId })).posts });
  if (state.tab === "people") keep({ suggestions: (await call("SuggestConnections", {})).suggestions });
}

async function readPeer(options) {
  const peerId = state.chosen;
  const { connection } = await gateway.call("GetConnection", { userId: me(), peerId }, options);
  if (state.chosen === peerId) state.connection = { peerId, state: connection.state };
}

// What somebody does ---------------------------------------------------------------------------

async function seeAs(userId) {
  const number = ++opening;
  await attempt(async () => {
    const world = await read(gateway, userId);
    if (number !== opening) return;
    forget();
    Object.assign(state, {
      world, knows: new Map(), digest: undefined, own: undefined, suggestions: [], chosen: undefined,
      connection: undefined, draft: EMPTY, lit: undefined, why: undefined, asking: undefined,
    });
    byId("events").replaceChildren();
    if (location.hash !== `#${userId}`) history.pushState(null, "", `#${userId}`);
    showAll();
    if (state.tab !== "feed") {
      await readTab();
      showList();
    }
    await meet();
    showPicture();
  });
}

async function openTab(name) {
  state.tab = name;
  showTabs();
  showList();
  await attempt(() => readTab());
  showList();
}

async function choose(peerId) {
  if (state.asking && peerId) {
    await explain(state.asking, peerId);
    return;
  }
  state.chosen = peerId === me() || peerId === state.chosen ? undefined : peerId;
  state.connection = undefined;
  if (state.chosen) await attempt(() => readPeer());
  showPicture();
  showPeer();
}

/** Makes a change, and reads what has come of it. */
async function changed(method, request) {
  await attempt(async () => {
    await gateway.call(method, { userId: me(), ...request, requestId: newRequestId() });
    await refresh({ isRepeated: true });
    if (state.chosen) await readPeer({ isRepeated: true });
    showPeer();
  });
}

function change(method, peerId) {
  return changed(method, { peerId });
}

function tag({ tagId }, peerId, isGiven) {
  return changed(isGiven ? "AddTagMembers" : "RemoveTagMembers", { tagId, targetUserIds: [peerId] });
}

async function newTag(name, peerId) {
  const request = { userId: me(), name, requestId: newRequestId() };
  const made = await attempt(() => gateway.call("CreateTag", request));
  if (made) await tag(made.tag, peerId, true);
}

function markRead({ authorId, postId }) {
  return changed("MarkFeedRead", { post: { authorId, postId } });
}

function remove({ postId }) {
  return changed("DeletePost", { postId });
}

async function why(post) {
  if (post.authorId !== me()) {
    await explain(post, me());
    return;
  }
  state.why = undefined;
  state.asking = post;
  showWhy();
  byId("why").querySelector("input").focus();
}

/** Asks as the author, who alone may: with tokens, only about one's own posts. */
async function explain(post, viewer, options) {
  const request = { userId: post.authorId, postId: post.postId, viewerId: viewer };
  await attempt(async () => {
    const answer = await gateway.call("ExplainVisibility", request, options);
    state.asking = undefined;
    state.lit = undefined;
    state.why = { ...answer, post, author: post.authorId, viewer, body: post.body };
  });
  showPicture();
  showWhy();
}

function endWhy() {
  state.why = state.asking = undefined;
  showPicture();
  showWhy();
}

/** Puts the audience of a post into the draft, whose preview tells who sees it. */
async function whoSees({ audience, body }) {
  const { kind, tagIds = [], excludedTagIds = [] } = audience;
  state.draft = { body, audience: { kind, tagIds, excludedTagIds } };
  showDraft();
  await preview();
}

async function preview(options) {
  const number = ++previewing;
  const { kind, tagIds } = state.draft.audience;
  const output = byId("preview");
  if (kind === "AUDIENCE_KIND_TAGS" && tagIds.length === 0) {
    state.lit = new Set();
    output.textContent = "Choose a tag: without one, nobody else would see it.";
    showPicture();
    return;
  }
  const request = { userId: me(), audience: state.draft.audience, pageSize: MOST_PREVIEWED };
  await attempt(async () => {
    const answer = await gateway.call("PreviewAudience", request, options);
    if (number !== previewing) return;
    state.why = undefined;
    state.lit = new Set(answer.viewerIds);
    byId("preview").textContent = previewed(answer);
    showPicture();
    showWhy();
  });
}

function drafted() {
  const before = JSON.stringify(state.draft.audience);
  state.draft = chosenIn(byId("write"));
  if (state.lit && JSON.stringify(state.draft.audience) === before) return;
  clearTimeout(typing);
  typing = setTimeout(() => preview(), TYPING_MILLISECONDS);
}

function clearDraft() {
  clearTimeout(typing);
  previewing += 1;
  state.draft = EMPTY;
  state.lit = undefined;
  showDraft();
  showPicture();
}

async function publish() {
  const made = await attempt(() => gateway.call("CreatePost", {
    userId: me(), ...state.draft, requestId: newRequestId(),
  }));
  if (!made) return;
  clearDraft();
  await attempt(() => refresh({ isRepeated: true }));
}

// Tokens ---------------------------------------------------------------------------------------

function askForToken() {
  const dialog = byId("token-dialog");
  if (!dialog.open) dialog.showModal();
}

/** Returns the user of a token, or nothing for that of a service. The gateway verifies tokens. */
function subjectOf(token) {
  try {
    const [, content] = token.split(".");
    const { sub } = JSON.parse(atob(content.replaceAll("-", "+").replaceAll("_", "/")));
    return isPerson(sub) ? sub : "";
  } catch {
    return "";
  }
}

async function useToken() {
  const token = byId("token").value.trim();
  byId("token").value = "";
  if (byId("token-dialog").returnValue !== "use" || !token) return;
  gateway.token = token;
  state.subject = subjectOf(token);
  await seeAs(state.subject || byId("person").value);
}

// The page -------------------------------------------------------------------------------------

function listen() {
  byId("pick").addEventListener("submit", (event) => {
    event.preventDefault();
    seeAs(byId("person").value);
  });
  window.addEventListener("hashchange", () => seeAs(fromAddress()));
  byId("live").addEventListener("click", (event) => {
    state.isLive = !state.isLive;
    event.target.setAttribute("aria-pressed", String(state.isLive));
  });
  byId("sign").addEventListener("click", askForToken);
  byId("token-dialog").addEventListener("close", useToken);
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = TABS.findIndex(([name]) => name === state.tab);
    openTab(TABS[(at + step + TABS.length) % TABS.length][0]);
    byId(`tab-${state.tab}`).focus();
  });
  byId("write").addEventListener("input", drafted);
  byId("write").addEventListener("reset", (event) => {
    event.preventDefault();
    clearDraft();
  });
  byId("write").addEventListener("submit", (event) => {
    event.preventDefault();
    publish();
  });
  followKeys(byId("picture"));
}

/** Reads again and again, while the page is seen and nothing is asked of the reader. */
async function live() {
  const isWanted = state.isLive && state.world && !document.hidden && !byId("token-dialog").open;
  if (isWanted) {
    try {
      await refresh({ isRepeated: true });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // What is refused once is tried again; somebody who acts is told.
      byId("status").textContent = `Not up to date: ${error.message}`;
    }
  }
  setTimeout(live, LIVE_MILLISECONDS);
}

const isPerson = (text) => /^\d{1,19}$/.test(text);

/** Returns the person that the address of the page names. */
function fromAddress() {
  const named = location.hash.slice(1);
  return isPerson(named) ? named : FIRST_PERSON;
}

async function start() {
  const rules = await (await fetch("/console/calls.json")).json();
  gateway = new Gateway(rules, tell);
  listen();
  byId("person").value = fromAddress();
  await seeAs(fromAddress());
  setTimeout(live, LIVE_MILLISECONDS);
}

await start();
