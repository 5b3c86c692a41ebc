// The attention viewer: choose a model, a prompt and a head; see whom each token attends to. This file holds what is
// chosen and what the numbers are; the others draw it: heads, tokens, map. The last, controls, begins. Together they
// are one script, in the order of gpt2/report/page.py.
//
// The data are those of viewer_data in gpt2/interpret/heads.py. A[t, s] is the share of its attention that token t pays to
// token s <= t.

const FULL = 65535; // a weight of 1

const { models } = JSON.parse(document.getElementById("attention-data").textContent);
const viewer = document.getElementById("viewer");
const at = (id) => document.getElementById(`viewer-${id}`);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const color = (name) => getComputedStyle(viewer).getPropertyValue(name).trim();

// --- what is chosen, and a link that holds it ------------------------------------------------------------------------

const state = { model: 0, prompt: 0, layer: 0, head: 0, token: null, side: "from", threshold: 0, sink: false };
let hovered = null; // {side, token} under the pointer or the keyboard's focus; counts where no token is locked
const cursor = { row: 0, column: 0 }; // the cell of the map that is read out

const model = () => models[state.model];
const prompt = () => model().prompts[state.prompt];
const active = () => (state.token === null ? hovered : { side: state.side, token: state.token });

function link() {
  const { model: place, token, side, threshold, sink, ...rest } = state;
  const values = { model: models[place].name, ...rest };
  if (token !== null) Object.assign(values, { token, side });
  if (threshold) values.threshold = threshold;
  if (sink) values.sink = "hidden";
  return `#viewer&${new URLSearchParams(values)}`;
}

// Takes over what a link says, as far as there is such a model, prompt, head or token; anything else stays as it is.
function follow(hash) {
  if (!hash.startsWith("#viewer&")) return false;
  const said = new URLSearchParams(hash.slice("#viewer&".length));
  const whole = (name, count) => (/^\d+$/.test(said.get(name)) && +said.get(name) < count ? +said.get(name) : null);
  const found = models.findIndex(({ name }) => name === said.get("model"));
  if (found >= 0) state.model = found;
  state.prompt = whole("prompt", model().prompts.length) ?? state.prompt;
  state.layer = whole("layer", model().n_layer) ?? state.layer;
  state.head = whole("head", model().n_head) ?? state.head;
  state.token = whole("token", prompt().tokens.length);
  state.side = said.get("side") === "to" ? "to" : "from";
  state.threshold = clamp(Number(said.get("threshold")) || 0, 0, 1);
  state.sink = said.get("sink") === "hidden";
  fit();
  return true;
}

// Changes the state and shows it; the address follows, where the browser lets a local file change its own.
function change(values) {
  Object.assign(state, values);
  fit();
  try {
    history.replaceState(null, "", link());
  } catch {
    // the link below the controls still has it
  }
  show();
}

// Locks a token on one side, or lets it go.
function lock(side, token) {
  const locked = state.token === token && state.side === side;
  change({ side, token: locked ? null : token });
}

// Another model has other heads, another prompt other tokens.
function fit() {
  const last = prompt().tokens.length - 1;
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
  const key = [state.model, state.prompt, layer, head].join();
  if (!decoded.has(key)) {
    const bytes = Uint8Array.from(atob(prompt().weights[layer][head]), (char) => char.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    decoded.set(key, Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) / FULL));
  }
  return decoded.get(key);
}

// Row t of a head as shown, and what of it is hidden. With the first token hidden the others' shares are those of what
// is left.
function row(t, layer = state.layer, head = state.head) {
  const start = (t * (t + 1)) / 2;
  const shares = Array.from(triangle(layer, head).subarray(start, start + t + 1));
  if (!state.sink) return { shares, hidden: 0 };
  const hidden = shares[0];
  const left = shares.slice(1).reduce((sum, share) => sum + share, 0);
  return { shares: shares.map((share, s) => (s && left ? share / left : 0)), hidden };
}

const rows = (...head) => prompt().tokens.map((_, t) => row(t, ...head));
const shown = (share) => share > 0 && share >= state.threshold;

// --- keys and words that the parts share -----------------------------------------------------------------------------

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // down, right
const plain = (event) => !(event.ctrlKey || event.altKey || event.metaKey);
const quoted = (t) => `“${prompt().tokens[t]}” (${t})`;
const say = (id, text) => {
  if (at(id).textContent !== text) at(id).textContent = text; // a screen reader reads out what is written anew
};
const identity = (t) => `id ${prompt().ids[t]}, bytes ${prompt().bytes[t].match(/../g).join(" ")}`;
