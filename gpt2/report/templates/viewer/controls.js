// The controls, and the start of the viewer.

const fill = (select, labels) => select.replaceChildren(...labels.map((label, value) => new Option(label, value)));

at("model").addEventListener("change", ({ target }) => {
  const same = models[target.value].prompts[state.prompt].tokens[state.token] === prompt().tokens[state.token];
  change({ model: +target.value, token: same ? state.token : null, snapshot: null }); // another vocabulary may split the text differently
});
at("prompt").addEventListener("change", ({ target }) => change({ prompt: +target.value, token: null }));
at("snapshot").addEventListener("input", ({ target }) => change({ snapshot: +target.value }));
at("threshold").addEventListener("input", ({ target }) => change({ threshold: +target.value }));
at("sink").addEventListener("change", ({ target }) => change({ sink: target.checked }));
window.addEventListener("hashchange", () => {
  if (!follow(location.hash)) return;
  show();
  viewer.scrollIntoView();
});

document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && state.token !== null) change({ token: null });
});

let drawn = ""; // model and prompt of the heads and tokens on the page
let shaded = ""; // model, prompt, snapshot and sink of the thumbnails on the page

// The slider over training; it ends with the final model.
function showTraining() {
  const { snapshots } = model();
  const last = snapshots.length - 1;
  at("training").hidden = last < 1 || state.prompt > 0;
  at("snapshot").max = last;
  at("snapshot").value = state.snapshot ?? last;
  const { step, tokens } = snapshots.at(state.snapshot ?? -1) ?? { step: 0, tokens: 0 };
  const text = `step ${step.toLocaleString("en-US")}, ${tokens.toLocaleString("en-US")} tokens`;
  at("snapshot-value").textContent = text;
  at("snapshot").ariaValueText = text;
}

function show() {
  at("model").value = state.model;
  at("prompt").value = state.prompt;
  showTraining();
  at("threshold").value = state.threshold;
  at("threshold-value").textContent = state.threshold.toFixed(2);
  at("sink").checked = state.sink;
  at("link").href = link();
  const current = [state.model, state.prompt].join();
  if (drawn !== current) {
    drawHeads();
    drawTokens();
    drawn = current;
  }
  const shade = [current, state.snapshot, state.sink].join();
  if (shaded !== shade) {
    drawThumbnails();
    shaded = shade;
  }
  markHead();
  drawLines();
  drawMap();
}

fill(at("model"), models.map(({ title }) => title));
fill(at("prompt"), models[0].prompts.map(({ text }) => text));
viewer.hidden = false;
at("absent").hidden = true;
const linked = follow(location.hash);
cursor.row = state.token ?? prompt().tokens.length - 1;
show();
if (linked) viewer.scrollIntoView();
new ResizeObserver(drawMap).observe(map.parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawThumbnails();
  drawMap();
});
