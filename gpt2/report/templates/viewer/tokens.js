// The prompt twice, side by side, with a line from each token to the tokens that it attends to. Pointing at a token, or
// focusing it, shows only its lines and puts weights beside the tokens of the other side; a click locks it.

const MIN_LINE = 0.01; // the line of a smaller weight would not be visible

function drawTokens() {
  for (const side of ["from", "to"]) {
    const buttons = prompt().tokens.map((label, token) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", title: `${label}\n${identity(token)}` });
      Object.assign(button.dataset, { side, token });
      const text = Object.assign(document.createElement("bdi"), { textContent: label });
      button.append(text, Object.assign(document.createElement("span"), { className: "weight" }));
      return button;
    });
    at(side).replaceChildren(...buttons);
  }
}

// The lines of the active token, or of all tokens, and the weights of the active token.
function drawLines() {
  const selected = active();
  const pairs = rows().flatMap(({ weights }, t) => weights.map((weight, s) => ({ t, s, weight })));
  const visible = pairs.filter(
    ({ t, s, weight }) => shown(weight) && (!selected || selected.token === (selected.side === "from" ? t : s)),
  );
  at("lines").setAttribute("viewBox", `0 0 100 ${10 * prompt().tokens.length}`);
  const drawn = visible.filter(({ weight }) => weight >= MIN_LINE);
  at("lines").replaceChildren(...drawn.map((pair) => line(pair, selected ? Math.sqrt(pair.weight) : pair.weight)));
  const beside = new Map(selected && visible.map(({ t, s, weight }) => [selected.side === "from" ? s : t, weight]));
  for (const button of viewer.querySelectorAll("button[data-side]")) {
    const token = +button.dataset.token;
    const sameSide = selected?.side === button.dataset.side;
    button.lastChild.textContent = (sameSide ? undefined : beside.get(token))?.toFixed(3) ?? "";
    button.ariaPressed = state.token === token && state.side === button.dataset.side;
    button.classList.toggle("active", sameSide && selected.token === token);
    button.tabIndex = token === (sameSide ? selected.token : 0) ? 0 : -1;
  }
  describe(selected);
}

function line({ t, s, weight }, opacity) {
  const path = document.createElementNS(at("lines").namespaceURI, "path");
  const [from, to] = [10 * t + 5, 10 * s + 5];
  path.setAttribute("d", `M0 ${from}C50 ${from} 50 ${to} 100 ${to}`);
  path.setAttribute("stroke-opacity", opacity.toFixed(3));
  path.setAttribute("stroke-width", (1 + 3 * weight).toFixed(2));
  Object.assign(path.dataset, { from: t, to: s });
  return path;
}

// Describes the active token, and the hidden weight of the first token.
function describe(selected) {
  const locked = state.token === null ? "" : "; locked (click it again or press Escape to unlock)";
  const text = selected && `Token ${quoted(selected.token)}: ${identity(selected.token)}${locked}`;
  say("token", text ?? "Point at a token to see only its lines; click to lock it.");
  const hidden = rows().map((row) => row.hidden);
  const mean = hidden.slice(1).reduce((sum, weight) => sum + weight, 0) / (hidden.length - 1);
  const own = selected?.side === "from" ? `${hidden[selected.token].toFixed(3)} for ${quoted(selected.token)}, ` : "";
  const sentence = `Hidden weight on the first token: ${own}${mean.toFixed(3)} on average over the later tokens.`;
  say("hidden", state.sink ? `${sentence} The other weights are rescaled to sum to 1.` : "");
}

function hover(side, token) {
  hovered = side === undefined ? null : { side, token };
  drawLines();
}

const tokenOf = ({ target }) => target.closest?.("button[data-side]")?.dataset;
const panel = at("tokens");
for (const kind of ["pointerover", "focusin"]) {
  panel.addEventListener(kind, (event) => {
    const button = tokenOf(event);
    if (button) hover(button.side, +button.token);
  });
}
panel.addEventListener("pointerleave", () => hover());
panel.addEventListener("focusout", () => hover());
panel.addEventListener("click", (event) => {
  const button = tokenOf(event);
  if (button) lock(button.side, +button.token);
});
panel.addEventListener("keydown", (event) => {
  const button = tokenOf(event);
  if (!button || !(event.key in MOVES) || !plain(event)) return;
  event.preventDefault();
  const [down, right] = MOVES[event.key];
  const side = right ? (right > 0 ? "to" : "from") : button.side;
  at(side).children[clamp(+button.token + down, 0, prompt().tokens.length - 1)].focus();
});
