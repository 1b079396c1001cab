// One person's world, as the public calls tell it, and what has changed between two readings of it.
import { counted } from "./sentences.js";

const FEED_POSTS = 20;
const MOST_CONNECTIONS = 500;
/** So many people are drawn. */
export const MOST_DRAWN = 60;
// Services limit how often a user may make heavy calls, and previews are among them.
const MOST_ASKED = 24;
const AT_ONCE = 6;

const peersOf = (answer) => answer.connections.map((each) => each.peerId);

/** Works on items, a few at a time. */
async function inParallel(items, work) {
  const queue = [...items];
  const worker = async () => {
    while (queue.length) await work(queue.shift());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** Reads everything but who knows whom. */
export async function read(gateway, userId, options) {
  const call = (method, request) => gateway.call(method, { userId, ...request }, options);
  const direction = (name) => ({ direction: `REQUEST_DIRECTION_${name}` });
  // Alone, and first: if it is refused, so are the others.
  const { connections, nextPageToken } = await call("ListConnections", { pageSize: MOST_CONNECTIONS });
  const [feed, unread, incoming, outgoing, blocked, tags] = await Promise.all([
    call("GetFeed", { pageSize: FEED_POSTS }),
    call("CountUnreadPosts", {}),
    call("ListConnectionRequests", direction("INCOMING")),
    call("ListConnectionRequests", direction("OUTGOING")),
    call("ListBlockedUsers", {}),
    call("ListTags", {}),
  ]);
  const members = new Map();
  await inParallel(tags.tags, async ({ tagId }) => {
    const answer = await call("ListTagMembers", { tagId, pageSize: MOST_CONNECTIONS });
    members.set(tagId, answer.members.map((member) => member.targetUserId));
  });
  return {
    userId,
    connections: connections.map((each) => each.peerId),
    hasMore: nextPageToken !== "",
    posts: feed.posts,
    unread,
    incoming: peersOf(incoming),
    outgoing: peersOf(outgoing),
    blocked: peersOf(blocked),
    tags: tags.tags.map((tag) => ({ ...tag, memberIds: members.get(tag.tagId) })),
  };
}

/**
 * Returns which of the drawn people know each other, as a map of each to those. `known` is what was
 * returned before, of which only the people are read who were not asked about.
 */
export async function acquaintances(gateway, { userId, connections }, known) {
  const found = new Map(known);
  const asked = connections.slice(0, MOST_ASKED).filter((peerId) => !found.has(peerId));
  await inParallel(asked, async (peerId) => {
    const request = { userId, peerId, pageSize: MOST_CONNECTIONS };
    const { mutualUserIds } = await gateway.call("ListMutualConnections", request, { isRepeated: true });
    found.set(peerId, mutualUserIds);
  });
  return found;
}

const without = (list, other) => list.filter((item) => !other.includes(item));

/** Returns the time of the last post of a page; of one that ends the feed, the first moment. */
function lastTime(posts) {
  return posts.length < FEED_POSTS ? 0 : Date.parse(posts.at(-1).createTime);
}

/** Returns what has happened between two readings, as sentences. */
export function changes(before, after) {
  const said = [];
  const each = (list, say) => list.forEach((item) => said.push(say(item)));
  const both = (name, came, went) => {
    each(without(after[name], before[name]), came);
    each(without(before[name], after[name]), went);
  };
  both("connections", (id) => `Person ${id} is connected now.`, (id) => `Person ${id} is not connected any more.`);
  both("incoming", (id) => `Person ${id} asks to connect.`, (id) => `The request of person ${id} is closed.`);
  both("outgoing", (id) => `Person ${id} was asked to connect.`, (id) => `The request to person ${id} is closed.`);
  both("blocked", (id) => `Person ${id} is blocked.`, (id) => `Person ${id} is not blocked any more.`);

  const known = new Map(before.posts.map((post) => [`${post.authorId}/${post.postId}`, post]));
  const oldest = lastTime(before.posts);
  for (const post of after.posts) {
    const former = known.get(`${post.authorId}/${post.postId}`);
    known.delete(`${post.authorId}/${post.postId}`);
    if (!former) {
      if (Date.parse(post.createTime) >= oldest) said.push(`A post of person ${post.authorId} came into the feed.`);
    } else if (former.editTime !== post.editTime) {
      said.push(`Person ${post.authorId} changed a post.`);
    } else if (former.commentCount !== post.commentCount) {
      said.push(`A post of person ${post.authorId} has ${counted(post.commentCount, "comment")} now.`);
    }
  }
  // Those that new posts have pushed off the page are there still.
  const end = lastTime(after.posts);
  for (const post of known.values()) {
    if (Date.parse(post.createTime) >= end) said.push(`A post of person ${post.authorId} left the feed.`);
  }

  const tagsBefore = new Map(before.tags.map((tag) => [tag.tagId, tag]));
  for (const tag of after.tags) {
    const former = tagsBefore.get(tag.tagId);
    tagsBefore.delete(tag.tagId);
    if (!former) said.push(`The tag “${tag.name}” is new.`);
    each(without(tag.memberIds, former?.memberIds ?? []), (id) => `Person ${id} has the tag “${tag.name}” now.`);
    each(without(former?.memberIds ?? [], tag.memberIds), (id) => `Person ${id} has the tag “${tag.name}” no more.`);
  }
  each([...tagsBefore.values()], (tag) => `The tag “${tag.name}” is gone.`);
  return said;
}
