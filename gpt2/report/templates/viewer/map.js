// The selected head as a heat map: one row per token, one column per token that it attends to. The pointer or the arrow
// keys select a cell.

const MAX_LABEL = 14; // characters; longer tokens are cut
const MIN_LABELED = 9; // pixels per cell; with smaller cells only some tokens get labels

const map = at("map");
let size = { gutter: 0, cell: 0, fill: 0 }; // pixels: space for labels, side of a cell, side of its colored part

const cut = (label) => {
  const characters = Array.from(label);
  return characters.length > MAX_LABEL ? `${characters.slice(0, MAX_LABEL - 1).join("")}…` : label;
};
const corner = (t, s) => [size.gutter + s * size.cell, size.gutter + t * size.cell];

// Sizes are in CSS pixels; the canvas has the resolution of the screen.
function prepare(labels) {
  const ratio = window.devicePixelRatio || 1;
  const context = map.getContext("2d");
  const { fontFamily } = getComputedStyle(map);
  const width = map.clientWidth;
  context.font = `12px ${fontFamily}`;
  const longest = Math.max(...labels.map((label) => context.measureText(label).width));
  const gutter = Math.min(Math.ceil(longest) + 8, width / 3);
  const cell = (width - gutter) / labels.length;
  size = { gutter, cell, fill: cell - Math.min(1, cell / 8) };
  map.width = map.height = Math.round(width * ratio);
  context.scale(ratio, ratio);
  context.font = `${clamp(size.cell * 0.75, 9, 12)}px ${fontFamily}`;
  context.textBaseline = "middle";
  return context;
}

function drawMap() {
  if (!map.clientWidth) return;
  const labels = prompt().tokens.map(cut);
  const context = prepare(labels);
  const [ink, muted, accent, heat] = ["--ink", "--muted", "--accent", "--heat"].map(color);
  rows().forEach(({ weights }, t) =>
    weights.forEach((weight, s) => {
      context.fillStyle = `rgb(${heat} / ${shown(weight) ? 0.05 + 0.95 * weight : 0.04})`;
      context.fillRect(...corner(t, s), size.fill, size.fill);
    }),
  );
  const every = Math.ceil(MIN_LABELED / size.cell);
  const write = (label, t, angle, align, marked) => {
    if (t % every && !marked) return;
    const middle = corner(t, t)[0] + size.cell / 2;
    context.save();
    context.translate(...(angle ? [middle, size.gutter - 6] : [size.gutter - 6, middle]));
    context.rotate(angle);
    context.textAlign = align;
    context.fillStyle = marked ? ink : muted;
    context.fillText(label, 0, 0);
    context.restore();
  };
  labels.forEach((label, t) => {
    write(label, t, 0, "right", t === cursor.row);
    write(label, t, -Math.PI / 2, "left", t === cursor.column);
  });
  context.strokeStyle = accent;
  context.lineWidth = 2;
  context.strokeRect(...corner(cursor.row, cursor.column), size.fill, size.fill);
  const weight = row(cursor.row).weights[cursor.column].toFixed(3);
  say(
    "cell",
    state.sink && cursor.column === 0
      ? `The weight of ${quoted(cursor.row)} on the first token is hidden`
      : `${quoted(cursor.row)} attends to ${quoted(cursor.column)} with weight ${weight}`,
  );
}

function moveTo(t, s) {
  cursor.row = clamp(t, 0, prompt().tokens.length - 1);
  cursor.column = clamp(s, 0, cursor.row); // no token attends to a later one
  drawMap();
  hover("from", cursor.row);
}

// Moves to the cell under the pointer. Returns whether there is a cell.
function point({ offsetX, offsetY }) {
  const [t, s] = [offsetY, offsetX].map((offset) => Math.floor((offset - size.gutter) / size.cell));
  const there = s >= 0 && t < prompt().tokens.length && s <= t;
  const moved = !hovered || t !== cursor.row || s !== cursor.column;
  if (there && moved) moveTo(t, s);
  return there;
}

map.addEventListener("pointermove", point);
map.addEventListener("pointerleave", () => hover());
map.addEventListener("blur", () => hover());
map.addEventListener("click", (event) => {
  if (point(event)) lock("from", cursor.row);
});
map.addEventListener("keydown", (event) => {
  if (!plain(event)) return;
  if (event.key in MOVES) moveTo(cursor.row + MOVES[event.key][0], cursor.column + MOVES[event.key][1]);
  else if (event.key === "Enter") lock("from", cursor.row);
  else return;
  event.preventDefault();
});
