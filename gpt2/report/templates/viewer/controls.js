// The controls, and the start of the viewer.

const fill = (select, labels) => select.replaceChildren(...labels.map((label, value) => new Option(label, value)));

at("model").addEventListener("change", ({ target }) => {
  const same = models[target.value].prompts[state.prompt].tokens[state.token] === prompt().tokens[state.token];
  change({ model: +target.value, token: same ? state.token : null }); // another vocabulary may split the text differently
});
at("prompt").addEventListener("change", ({ target }) => change({ prompt: +target.value, token: null }));
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
let shaded = ""; // model, prompt and sink of the thumbnails on the page

function show() {
  at("model").value = state.model;
  at("prompt").value = state.prompt;
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
  if (shaded !== `${current},${state.sink}`) {
    drawThumbnails();
    shaded = `${current},${state.sink}`;
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
