// The chosen head as a heat map: a row a token, a column a token that it attends to. Pointer or arrow keys choose a
// cell.

const LONGEST_LABEL = 14; // characters; longer tokens are cut
const SMALLEST_LABELLED = 9; // pixels a cell; below that only some tokens are named

const map = at("map");
let size = { gutter: 0, cell: 0 }; // pixels: room for labels at the left and top, side of a cell

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
  const gutter = Math.ceil(Math.max(...labels.map((label) => context.measureText(label).width))) + 8;
  size = { gutter, cell: (width - gutter) / labels.length };
  map.width = map.height = Math.round(width * ratio);
  map.style.height = `${width}px`;
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
      context.fillRect(...corner(t, s), size.cell - 1, size.cell - 1);
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
  context.strokeRect(...corner(cursor.row, cursor.column), size.cell - 1, size.cell - 1);
  const share = row(cursor.row).shares[cursor.column].toFixed(3);
  const whole = state.sink ? "what is left of its attention" : "its attention";
  at("cell").textContent =
    state.sink && cursor.column === 0
      ? `What ${quoted(cursor.row)} pays to the first token is hidden`
      : `${quoted(cursor.row)} pays ${share} of ${whole} to ${quoted(cursor.column)}`;
}

function moveTo(t, s) {
  cursor.row = clamp(t, 0, prompt().tokens.length - 1);
  cursor.column = clamp(s, 0, cursor.row); // no token attends to a later one
  drawMap();
  hover("from", cursor.row);
}

function point({ offsetX, offsetY }) {
  const [t, s] = [offsetY, offsetX].map((offset) => Math.floor((offset - size.gutter) / size.cell));
  if (s >= 0 && t < prompt().tokens.length && s <= t) moveTo(t, s);
}

map.addEventListener("pointermove", point);
map.addEventListener("pointerleave", () => hover());
map.addEventListener("blur", () => hover());
map.addEventListener("click", (event) => {
  point(event);
  change({ token: cursor.row, side: "from" });
});
map.addEventListener("keydown", (event) => {
  if (!plain(event)) return;
  if (event.key in MOVES) moveTo(cursor.row + MOVES[event.key][0], cursor.column + MOVES[event.key][1]);
  else if (event.key === "Enter") change({ token: cursor.row, side: "from" });
  else return;
  event.preventDefault();
});
