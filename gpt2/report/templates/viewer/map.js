// The chosen head as a heat map: a row a token, a column a token that it attends to. Pointer or arrow keys choose a
// cell.

const LONGEST_LABEL = 14; // characters; longer tokens are cut
const SMALLEST_LABELLED = 9; // pixels a cell; below that only some tokens are named

const map = at("map");
let size = { gutter: 0, cell: 0, fill: 0 }; // pixels: room for labels left and above, side of a cell, of its colour

const cut = (label) => {
  const characters = Array.from(label);
  return characters.length > LONGEST_LABEL ? `${characters.slice(0, LONGEST_LABEL - 1).join("")}…` : label;
};
const corner = (t, s) => [size.gutter + s * size.cell, size.gutter + t * size.cell];

// Sizes are in CSS pixels; the canvas has as many real ones as the screen.
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
  rows().forEach(({ shares }, t) =>
    shares.forEach((share, s) => {
      context.fillStyle = `rgb(${heat} / ${shown(share) ? 0.05 + 0.95 * share : 0.04})`;
      context.fillRect(...corner(t, s), size.fill, size.fill);
    }),
  );
  const every = Math.ceil(SMALLEST_LABELLED / size.cell);
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
  const share = row(cursor.row).shares[cursor.column].toFixed(3);
  const whole = state.sink ? "what is left of its attention" : "its attention";
  say(
    "cell",
    state.sink && cursor.column === 0
      ? `What ${quoted(cursor.row)} pays to the first token is hidden`
      : `${quoted(cursor.row)} pays ${share} of ${whole} to ${quoted(cursor.column)}`,
  );
}

function moveTo(t, s) {
  cursor.row = clamp(t, 0, prompt().tokens.length - 1);
  cursor.column = clamp(s, 0, cursor.row); // no token attends to a later one
  drawMap();
  hover("from", cursor.row);
}

// Moves to the cell under the pointer. Returns whether there is one.
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
