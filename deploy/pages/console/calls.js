// The calls of the gateway. A call has one request, from which its forms over HTTP and gRPC follow.

/** What the gateway or a service has refused. */
export class Refusal extends Error {
  constructor(status, answer) {
    const details = answer?.details ?? [];
    const reason = details.find((detail) => detail.reason)?.reason ?? `HTTP ${status}`;
    super(`${reason}: ${answer?.message ?? "there was no answer"}`);
    this.status = status;
    this.reason = reason;
  }
}

/** Returns a new id by which a change can be repeated. Not randomUUID: that takes HTTPS. */
export function newRequestId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const inJson = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

function* flat(fields, outer = []) {
  for (const [name, value] of Object.entries(fields)) {
    const way = [...outer, name];
    if (Array.isArray(value)) for (const item of value) yield [way.join("."), String(item)];
    else if (typeof value === "object") yield* flat(value, way);
    else yield [way.join("."), String(value)];
  }
}

/** Returns a request as it is sent over HTTP: ids in the path, the rest in the body or query. */
export function overHttp(rule, request) {
  const rest = structuredClone(request);
  const take = (name) => {
    const way = name.split(".").map(inJson);
    const last = way.pop();
    const inside = way.reduce((fields, part) => fields[part], rest);
    const value = inside[last];
    delete inside[last];
    return value;
  };
  let path = rule.path.replace(/\{([\w.]+)\}/g, (_, name) => encodeURIComponent(take(name)));
  let body;
  if (rule.body === "*") body = rest;
  else {
    if (rule.body) body = take(rule.body) ?? {};
    const query = new URLSearchParams([...flat(rest)]).toString();
    if (query) path += `?${query}`;
  }
  return { verb: rule.verb, path, body };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Returns a call as a command with curl. A token is named and not shown. */
export function asCurl(call, origin, hasToken) {
  const parts = ["curl"];
  if (call.verb !== "GET" && !(call.verb === "POST" && call.body)) parts.push(`-X ${call.verb}`);
  parts.push(quoted(origin + call.path));
  if (call.body) parts.push(`--json ${quoted(JSON.stringify(call.body))}`);
  if (hasToken) parts.push('-H "authorization: Bearer $TOKEN"');
  return parts.join(" ");
}

/** Returns a call as a command with grpcurl, which reads the contracts from kith.binpb. */
export function asGrpcurl(call, origin, hasToken) {
  const { protocol, host } = new URL(origin);
  const parts = ["grpcurl"];
  if (protocol === "http:") parts.push("-plaintext");
  parts.push("-protoset kith.binpb");
  if (hasToken) parts.push('-H "authorization: Bearer $TOKEN"');
  parts.push(`-d ${quoted(JSON.stringify(call.request))}`);
  const address = /:\d+$/.test(host) ? host : `${host}:${protocol === "http:" ? 80 : 443}`;
  return [...parts, address, `${call.service}/${call.method}`].join(" ");
}

/** Makes calls, and tells of each. */
export class Gateway {
  #rules;
  #token = "";
  #tell;

  constructor(rules, tell) {
    this.#rules = rules;
    this.#tell = tell;
  }

  get hasToken() {
    return this.#token !== "";
  }

  set token(token) {
    this.#token = token;
  }

  /** Makes a call; throws Refusal. One that `isRepeated` is told apart from what somebody does. */
  async call(method, request, { isRepeated = false } = {}) {
    const rule = this.#rules[method];
    const sent = { method, service: rule.service, request, ...overHttp(rule, request) };
    const headers = {};
    if (sent.body) headers["content-type"] = "application/json";
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    const started = performance.now();
    const response = await fetch(sent.path, {
      method: sent.verb,
      headers,
      body: sent.body && JSON.stringify(sent.body),
      cache: "no-store",
      credentials: "omit",
    }).catch(() => undefined);
    const answer = await response?.json().catch(() => undefined);
    const status = response?.status ?? 0;
    const milliseconds = Math.round(performance.now() - started);
    this.#tell({ ...sent, status, answer, milliseconds, isRepeated, hasToken: this.hasToken });
    if (!response?.ok) throw new Refusal(status, answer);
    return answer;
  }
}
