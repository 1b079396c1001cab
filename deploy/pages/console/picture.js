// A person's neighbourhood as a picture: the person in the middle, their tags as colours, and who
// of the others know each other.
import { show, svg } from "./dom.js";

const RADIUS = 17;
const WIDTH = 320 - RADIUS - 6;
const HEIGHT = 250 - RADIUS - 6;
const STEPS = 240;
/** Colours that console.css has; further tags begin again. */
export const COLOURS = 8;

// Where everybody stood before: a picture that changes a little moves a little.
const positions = new Map();

/** Returns where to draw people: apart from each other, those near who know each other. */
function placed(ids, pairs) {
  const turn = Math.PI * (3 - Math.sqrt(5));
  const points = ids.map((id, index) => ({
    ...(positions.get(id) ?? { x: 150 * Math.cos(index * turn), y: 150 * Math.sin(index * turn) }),
  }));
  const found = new Map(ids.map((id, index) => [id, points[index]]));
  const links = pairs.map(([one, other]) => [found.get(one), found.get(other)]);
  for (let step = 0; step < STEPS; step += 1) settle(points, links, 1 - step / STEPS);
  spread(points);
  positions.clear();
  for (const [id, point] of found) positions.set(id, point);
  return found;
}

function settle(points, links, heat) {
  for (const one of points) one.dx = one.dy = 0;
  for (const [index, one] of points.entries()) {
    for (const other of points.slice(index + 1)) push(one, other, 1_100);
    push(one, { x: 0, y: 0, dx: 0, dy: 0 }, 2_600);
    pull(one, { x: 0, y: 0, dx: 0, dy: 0 }, 140, 0.06);
  }
  for (const [one, other] of links) pull(one, other, 90, 0.02);
  // The person in the middle stays in the middle of the others.
  const [x, y] = ["x", "y"].map((way) => points.reduce((sum, one) => sum + one[way], 0) / points.length);
  for (const one of points) {
    one.x += clamp(one.dx, 20) * heat - x * 0.2;
    one.y += clamp(one.dy, 20) * heat - y * 0.2;
  }
}

/** Moves them apart or together until they fill the picture. */
function spread(points) {
  const most = (way) => Math.max(1, ...points.map((one) => Math.abs(one[way])));
  const [wide, high] = [WIDTH / most("x"), HEIGHT / most("y")];
  for (const one of points) {
    one.x *= Math.min(wide, 2);
    one.y *= Math.min(high, 2);
  }
}

const clamp = (value, most) => Math.max(-most, Math.min(most, value));

function push(one, other, strength) {
  const [dx, dy] = [one.x - other.x, one.y - other.y];
  const force = strength / Math.max(dx * dx + dy * dy, 100);
  move(one, other, dx * force, dy * force);
}

function pull(one, other, length, strength) {
  const [dx, dy] = [other.x - one.x, other.y - one.y];
  const distance = Math.max(Math.hypot(dx, dy), 1);
  const force = (strength * (distance - length)) / distance;
  move(one, other, dx * force, dy * force);
}

function move(one, other, dx, dy) {
  one.dx += dx;
  one.dy += dy;
  other.dx -= dx;
  other.dy -= dy;
}

function line(from, to, kind) {
  return svg("line", { class: kind, x1: from.x, y1: from.y, x2: to.x, y2: to.y });
}

/** Returns a ring of parts, one for each tag. */
function ring(colours) {
  const length = 100 / colours.length;
  return colours.map((colour, index) => svg("circle", {
    class: `ring tag-${colour}`,
    r: RADIUS,
    pathLength: 100,
    "stroke-dasharray": `${length} ${100 - length}`,
    "stroke-dashoffset": -index * length,
  }));
}

function node({ id, point, kinds, colours, says, isFirst, choose }) {
  const pressed = kinds.includes("chosen");
  return svg("g", {
    class: ["node", ...kinds].join(" "),
    transform: `translate(${point.x.toFixed(1)} ${point.y.toFixed(1)})`,
    role: "button",
    tabindex: isFirst ? 0 : -1,
    "aria-pressed": String(pressed),
    "aria-label": says,
    "data-key": `node-${id}`,
    "data-id": id,
    onclick: () => choose(id),
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(id);
    },
  },
  svg("circle", { class: "disc", r: RADIUS }),
  ...ring(colours),
  svg("text", { dy: "0.35em" }, id));
}

/** Lets the arrow keys lead from node to node: one stop for the tab key, however many there are. */
export function followKeys(picture) {
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const nodes = [...picture.querySelectorAll(".node")];
    const at = nodes.indexOf(document.activeElement);
    const next = nodes[(at + step + nodes.length) % nodes.length];
    for (const each of nodes) each.setAttribute("tabindex", each === next ? 0 : -1);
    next.focus();
    event.preventDefault();
  });
}

/**
 * Draws it.
 *
 * `drawn` are the neighbours and `knows` who of them know each other. `strangers` are drawn too,
 * without a line: people whom a question is about. `lit` are those who would see a draft, if there
 * is one. `why` is an answer to the question why: the line between its author and viewer is drawn
 * as it came out.
 */
export function draw(picture, { userId, drawn, knows, strangers, tags, chosen, lit, why, choose }) {
  const ids = [...drawn, ...strangers];
  const pairs = drawn.flatMap((one) => (knows.get(one) ?? [])
    .filter((other) => drawn.includes(other) && (!knows.has(other) || BigInt(one) < BigInt(other)))
    .map((other) => [one, other]));
  const where = placed(ids, pairs);
  where.set(userId, { x: 0, y: 0 });
  const asked = why ? [why.author, why.viewer] : [];
  const kindsOf = (id) => [
    id === chosen && "chosen",
    lit && (id === userId || lit.has(id) ? "lit" : "dim"),
    why && (asked.includes(id) ? "asked" : "dim"),
    strangers.includes(id) && "stranger",
  ].filter(Boolean);
  const people = ids.map((id, index) => {
    const given = tags.filter((tag) => tag.memberIds.includes(id));
    const seeing = lit ? `, ${lit.has(id) ? "would see the draft" : "would not see the draft"}` : "";
    return node({
      id,
      point: where.get(id),
      kinds: kindsOf(id),
      colours: given.map((tag) => tags.indexOf(tag) % COLOURS),
      says: `Person ${id}${given.map((tag) => `, ${tag.name}`).join("")}${seeing}`,
      isFirst: chosen ? id === chosen : index === 0,
      choose,
    });
  });
  const middle = svg("g", { class: ["middle", ...kindsOf(userId)].join(" ") },
    svg("circle", { class: "disc", r: RADIUS + 6 }),
    svg("text", { dy: "0.35em" }, userId));
  const answer = why && why.author !== why.viewer && line(
    where.get(why.author), where.get(why.viewer), `why ${why.visible ? "visible" : "hidden"}`,
  );
  show(picture,
    ...pairs.map(([one, other]) => line(where.get(one), where.get(other), "knows")),
    ...drawn.map((id) => line(where.get(userId), where.get(id), "connected")),
    answer,
    middle,
    ...people);
}
