// All heads of the model as thumbnails: one row per layer, one column per head. The pointer or the arrow keys select one.

function drawHeads() {
  const { n_layer, n_head } = model();
  const grid = at("heads");
  grid.style.setProperty("--heads", n_head);
  const heading = (text) => Object.assign(document.createElement("span"), { textContent: text, ariaHidden: "true" });
  const cells = [heading(""), ...Array.from({ length: n_head }, (_, head) => heading(head))];
  for (let layer = 0; layer < n_layer; layer++) {
    cells.push(heading(layer));
    for (let head = 0; head < n_head; head++) cells.push(headButton(layer, head));
  }
  grid.replaceChildren(...cells);
}

function headButton(layer, head) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", role: "radio", ariaLabel: `layer ${layer}, head ${head}` });
  Object.assign(button.dataset, { layer, head });
  return button;
}

function drawThumbnails() {
  for (const button of at("heads").querySelectorAll("button")) {
    const [layer, head] = [+button.dataset.layer, +button.dataset.head];
    button.replaceChildren(thumbnail(layer, head));
    button.title = `${button.ariaLabel}\n${scores(layer, head, "\n")}`;
  }
}

// One pixel per cell. Opacity shows the square root of the weight, which makes small weights visible.
function thumbnail(layer, head) {
  const canvas = document.createElement("canvas");
  const T = (canvas.width = canvas.height = prompt().tokens.length);
  const context = canvas.getContext("2d");
  const image = context.createImageData(T, T);
  const [red, green, blue] = color("--heat").split(" ").map(Number);
  rows(layer, head).forEach(({ weights }, t) =>
    weights.forEach((weight, s) => image.data.set([red, green, blue, 10 + 245 * Math.sqrt(weight)], 4 * (t * T + s))),
  );
  context.putImageData(image, 0, 0);
  return canvas;
}

const scores = (layer, head, separator) =>
  Object.entries(scored().scores)
    .map(([name, values]) => `${name.replace("_", " ")} ${values[layer][head].toFixed(3)}`)
    .join(separator);

// How much the loss changes without the head, if that was measured.
function ablation(layer, head) {
  if (!Object.keys(model().ablation).length) return "";
  if (snapshot()) return "The loss without this head was measured only for the final model, at the right end of the slider.";
  const effect = (on) => {
    const [rise, stderr] = ["", "_stderr"].map((kind) => model().ablation[`ablation_${on}${kind}`][layer][head]);
    return `${rise < 0 ? "−" : "+"}${Math.abs(rise).toFixed(3)} ± ${stderr.toFixed(3)}`;
  };
  return `Without this head, the loss changes by ${effect("text")} nats per token on text and by ${effect("repeated")} on repeated random tokens.`;
}

function markHead() {
  for (const button of at("heads").querySelectorAll("button")) {
    const selected = +button.dataset.layer === state.layer && +button.dataset.head === state.head;
    button.ariaChecked = selected;
    button.tabIndex = selected ? 0 : -1;
  }
  say("title", `Layer ${state.layer}, head ${state.head}`);
  say("scores", scores(state.layer, state.head, " · "));
  say("ablation", ablation(state.layer, state.head));
}

at("heads").addEventListener("click", ({ target }) => {
  const { layer, head } = target.closest("button")?.dataset ?? {};
  if (layer) change({ layer: +layer, head: +head });
});
at("heads").addEventListener("keydown", (event) => {
  if (!(event.key in MOVES) || !plain(event)) return;
  event.preventDefault();
  const [down, right] = MOVES[event.key];
  const layer = clamp(state.layer + down, 0, model().n_layer - 1);
  const head = clamp(state.head + right, 0, model().n_head - 1);
  change({ layer, head });
  at("heads").querySelector("[aria-checked=true]").focus();
});
