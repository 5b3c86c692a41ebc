// The attention viewer: choose a prompt, a layer and a head; a heat map shows how much each token (row) takes from each
// token (column). Pointer or arrow keys choose a cell. Its data: gpt2/attention.py, viewer_data.
(() => {
  "use strict";
  const LONGEST_LABEL = 14; // characters; longer tokens are cut
  const SMALLEST_LABELLED = 9; // pixels a cell; below that only some tokens are named
  const data = JSON.parse(document.getElementById("attention-data").textContent);
  const [viewer, prompt, layer, head, map, cell] = ["viewer", "prompt", "layer", "head", "map", "cell"].map((id) =>
    document.getElementById(id),
  );
  const selected = { row: 0, column: 0 };
  let tokens = []; // labels of the prompt
  let weights = new Uint8Array(); // lower triangle, row after row
  let size = { gutter: 0, cell: 0 }; // pixels: room for labels at the left and top, side of a cell

  const weight = (row, column) => weights[(row * (row + 1)) / 2 + column] / 255;
  const decode = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const cut = (label) => {
    const characters = Array.from(label);
    return characters.length > LONGEST_LABEL ? characters.slice(0, LONGEST_LABEL - 1).join("") + "…" : label;
  };

  function fill(select, labels) {
    select.replaceChildren(...labels.map((label, value) => new Option(label, value)));
    select.addEventListener("change", load);
  }

  function load() {
    const chosen = data.prompts[prompt.value];
    tokens = chosen.tokens;
    weights = decode(chosen.weights[layer.value][head.value]);
    select(Math.min(selected.row, tokens.length - 1), selected.column);
  }

  function select(row, column) {
    selected.row = clamp(row, 0, tokens.length - 1);
    selected.column = clamp(column, 0, selected.row); // no token looks at a later one
    const share = weight(selected.row, selected.column).toFixed(2);
    const [from, to] = [selected.row, selected.column].map((place) => `“${tokens[place]}” (${place})`);
    cell.textContent = `${from} takes ${share} from ${to}`;
    draw();
  }

  // Sizes are in CSS pixels; the canvas has as many real ones as the screen.
  function prepare() {
    const ratio = window.devicePixelRatio || 1;
    const style = getComputedStyle(map);
    const context = map.getContext("2d");
    const width = map.clientWidth;
    context.font = `12px ${style.fontFamily}`;
    const gutter = Math.ceil(Math.max(...tokens.map((token) => context.measureText(cut(token)).width))) + 8;
    size = { gutter, cell: (width - gutter) / tokens.length };
    map.width = Math.round(width * ratio);
    map.height = map.width;
    map.style.height = `${width}px`;
    context.scale(ratio, ratio);
    context.font = `${clamp(size.cell * 0.75, 9, 12)}px ${style.fontFamily}`;
    context.textBaseline = "middle";
    const color = (name) => style.getPropertyValue(name).trim();
    return { context, ink: color("--ink"), muted: color("--muted"), accent: color("--accent"), heat: color("--heat") };
  }

  function draw() {
    if (!map.clientWidth) return;
    const { context, ink, muted, accent, heat } = prepare();
    for (let row = 0; row < tokens.length; row++) {
      for (let column = 0; column <= row; column++) {
        context.fillStyle = `rgb(${heat} / ${0.05 + 0.95 * weight(row, column)})`;
        context.fillRect(...place(row, column), size.cell - 1, size.cell - 1);
      }
    }
    const every = Math.ceil(SMALLEST_LABELLED / size.cell);
    tokens.forEach((token, i) => {
      if (i % every && i !== selected.row && i !== selected.column) return;
      const [x, y] = place(i, i).map((start) => start + size.cell / 2);
      context.fillStyle = i === selected.row ? ink : muted;
      context.textAlign = "right";
      context.fillText(cut(token), size.gutter - 6, y);
      context.save();
      context.translate(x, size.gutter - 6);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillStyle = i === selected.column ? ink : muted;
      context.fillText(cut(token), 0, 0);
      context.restore();
    });
    context.strokeStyle = accent;
    context.lineWidth = 2;
    context.strokeRect(...place(selected.row, selected.column), size.cell - 1, size.cell - 1);
  }

  // The upper left corner of a cell.
  const place = (row, column) => [size.gutter + column * size.cell, size.gutter + row * size.cell];

  function point(event) {
    const [row, column] = [event.offsetY, event.offsetX].map((offset) => Math.floor((offset - size.gutter) / size.cell));
    if (row >= 0 && column >= 0 && row < tokens.length && column <= row) select(row, column);
  }

  const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  map.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [down, right] = MOVES[event.key];
    select(selected.row + down, selected.column + right);
  });
  map.addEventListener("pointermove", point);
  map.addEventListener("pointerdown", point);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(map.parentElement);

  viewer.hidden = false;
  fill(prompt, data.prompts.map(({ text }) => text));
  fill(layer, Array.from({ length: data.n_layer }, (_, i) => `${i}`));
  fill(head, Array.from({ length: data.n_head }, (_, i) => `${i}`));
  selected.row = data.prompts[0].tokens.length - 1;
  load();
})();
