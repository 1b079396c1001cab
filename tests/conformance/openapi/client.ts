// Makes calls by what openapi-typescript made of protos/openapi.yaml, and prints what was answered.
// That it compiles is a test as well: names, required fields and headers have types.

import createClient from "openapi-fetch";
import type { paths } from "./kith.js";

// Node's own types are a package more.
declare const process: { argv: string[] };

const [baseUrl, token, userId] = process.argv.slice(2) as [string, string, string];
const kith = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } });

const made = await kith.POST("/v1/users/{userId}/posts", {
  params: { path: { userId } },
  body: { body: "from TypeScript", audience: { kind: "AUDIENCE_KIND_ALL" } },
});
const postId = made.data!.post!.postId;
const path = { userId, authorId: userId, postId };

const comment = await kith.POST("/v1/users/{userId}/authors/{authorId}/posts/{postId}/comments", {
  params: { path },
  body: { body: "a comment" },
});
const commentId = comment.data!.comment!.commentId;
const changed = await kith.PATCH(
  "/v1/users/{userId}/authors/{authorId}/posts/{postId}/comments/{commentId}",
  { params: { path: { ...path, commentId } }, body: { body: "changed" } },
);

const shown = await kith.GET("/v1/users/{userId}/authors/{authorId}/posts/{postId}", {
  params: { path },
});
const etag = shown.response.headers.get("etag")!;
const update = (body: string) =>
  kith.PATCH("/v1/users/{userId}/posts/{postId}", {
    params: { path: { userId, postId }, header: { "If-Match": etag } },
    body: { body },
  });
const first = await update("first");
const lost = await update("lost");

const page = await kith.GET("/v1/users/{userId}/feed", {
  params: { path: { userId }, query: { pageSize: 5, authorIds: [userId] } },
});
const wrong = await kith.GET("/v1/users/{userId}/feed", {
  params: { path: { userId }, query: { pageSize: -1 } },
});

console.log(
  JSON.stringify({
    comment: changed.data!.comment!.body,
    first: first.data!.post!.body,
    lost: [lost.response.status, lost.error!.details[0]!.reason],
    posts: page.data!.posts.map((post) => post.body),
    wrong: wrong
      .error!.details.flatMap((detail) => detail.fieldViolations ?? [])
      .map((violation) => violation.field),
  }),
);
