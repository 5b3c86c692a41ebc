// The attention viewer: select a model, a prompt and a head, and see what each token attends to. This file holds the
// selection and the numbers. heads.js, tokens.js and map.js draw them, and controls.js starts the viewer.
// gpt2/report/page.py joins the files into one script.
//
// viewer_data in gpt2/interpret/heads.py describes the data. A[t, s] is the weight of token s <= t in the attention of
// token t.

const FULL = 65535; // a weight of 1

const { models } = JSON.parse(document.getElementById("attention-data").textContent);
const viewer = document.getElementById("viewer");
const at = (id) => document.getElementById(`viewer-${id}`);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const color = (name) => getComputedStyle(viewer).getPropertyValue(name).trim();

// --- the selection, and a link that holds it -------------------------------------------------------------------------

const state = {
  ...{ model: 0, prompt: 0, layer: 0, head: 0, token: null, side: "from", threshold: 0, sink: false },
  snapshot: null, // of training, in model().snapshots; null is the final model
};
let hovered = null; // {side, token} under the pointer or with the keyboard's focus; ignored while a token is locked
const cursor = { row: 0, column: 0 }; // the cell of the map whose weight is shown as text

const model = () => models[state.model];
const prompt = () => model().prompts[state.prompt];
const snapshot = () => (state.snapshot === null ? null : model().snapshots[state.snapshot]);
const scored = () => snapshot() ?? model(); // has the scores on the page
const active = () => (state.token === null ? hovered : { side: state.side, token: state.token });

function link() {
  const { token, side, threshold, sink, snapshot, ...rest } = state;
  const values = { ...rest, model: model().name };
  if (token !== null) Object.assign(values, { token, side });
  if (threshold) values.threshold = threshold;
  if (sink) values.sink = "hidden";
  if (snapshot !== null) values.snapshot = snapshot;
  return `#viewer&${new URLSearchParams(values)}`;
}

// Sets the state from a link. A model, prompt, head or token that does not exist is ignored.
function follow(hash) {
  if (!hash.startsWith("#viewer&")) return false;
  const params = new URLSearchParams(hash.slice("#viewer&".length));
  const index = (name, count) => (/^\d+$/.test(params.get(name)) && +params.get(name) < count ? +params.get(name) : null);
  const found = models.findIndex(({ name }) => name === params.get("model"));
  if (found >= 0) state.model = found;
  state.prompt = index("prompt", model().prompts.length) ?? state.prompt;
  state.layer = index("layer", model().n_layer) ?? state.layer;
  state.head = index("head", model().n_head) ?? state.head;
  state.token = index("token", prompt().tokens.length);
  state.side = params.get("side") === "to" ? "to" : "from";
  state.threshold = clamp(Number(params.get("threshold")) || 0, 0, 1);
  state.sink = params.get("sink") === "hidden";
  state.snapshot = index("snapshot", model().snapshots.length);
  fit();
  return true;
}

// Changes the state and shows it. Also updates the address bar, if the browser lets a local file do that.
function change(values) {
  Object.assign(state, values);
  fit();
  try {
    history.replaceState(null, "", link());
  } catch {
    // The link among the controls still works.
  }
  show();
}

// Locks a token on one side, or releases it.
function lock(side, token) {
  const locked = state.token === token && state.side === side;
  change({ side, token: locked ? null : token });
}

// Keeps the state within the heads and snapshots of the model and the tokens of the prompt.
function fit() {
  const last = prompt().tokens.length - 1;
  const final = model().snapshots.length - 1;
  if (state.prompt > 0 || state.snapshot >= final) state.snapshot = null; // snapshots have only the first prompt
  state.layer = Math.min(state.layer, model().n_layer - 1);
  state.head = Math.min(state.head, model().n_head - 1);
  if (state.token > last) state.token = null;
  if (hovered?.token > last) hovered = null;
  cursor.row = Math.min(cursor.row, last);
  cursor.column = Math.min(cursor.column, cursor.row);
}

// --- the numbers -----------------------------------------------------------------------------------------------------

const decoded = new Map();

// The lower triangle of A, row after row.
function triangle(layer, head) {
  const key = [state.model, state.prompt, state.snapshot, layer, head].join();
  if (!decoded.has(key)) {
    const bytes = Uint8Array.from(atob((snapshot() ?? prompt()).weights[layer][head]), (char) => char.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    decoded.set(key, Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) / FULL));
  }
  return decoded.get(key);
}

// The weights of token t as shown, and the hidden weight. With the first token hidden, the other weights are rescaled to
// sum to 1.
function row(t, layer = state.layer, head = state.head) {
  const start = (t * (t + 1)) / 2;
  const weights = Array.from(triangle(layer, head).subarray(start, start + t + 1));
  if (!state.sink) return { weights, hidden: 0 };
  const hidden = weights[0];
  const left = weights.slice(1).reduce((sum, weight) => sum + weight, 0);
  return { weights: weights.map((weight, s) => (s && left ? weight / left : 0)), hidden };
}

const rows = (...head) => prompt().tokens.map((_, t) => row(t, ...head));
const shown = (weight) => weight > 0 && weight >= state.threshold;

// --- keys and texts that the parts share ------------------------------------------------------------------------------

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // down, right
const plain = (event) => !(event.ctrlKey || event.altKey || event.metaKey);
const quoted = (t) => `“${prompt().tokens[t]}” (${t})`;
const say = (id, text) => {
  if (at(id).textContent !== text) at(id).textContent = text; // a screen reader announces every write
};
const identity = (t) => `id ${prompt().ids[t]}, bytes ${prompt().bytes[t].match(/../g).join(" ")}`;
