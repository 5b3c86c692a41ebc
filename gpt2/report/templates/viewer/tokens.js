// The prompt twice, side by side, with a line from each token to those it attends to. Pointing at a token, or focusing
// it, leaves its lines alone and puts numbers beside the others; a click locks it.

const FAINTEST = 0.01; // lines below this share could not be seen

function drawTokens() {
  for (const side of ["from", "to"]) {
    const buttons = prompt().tokens.map((label, token) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", title: `${label}\n${identity(token)}` });
      Object.assign(button.dataset, { side, token });
      const text = Object.assign(document.createElement("bdi"), { textContent: label });
      button.append(text, Object.assign(document.createElement("span"), { className: "share" }));
      return button;
    });
    at(side).replaceChildren(...buttons);
  }
}

// The lines of the token that is active, or of all; and its shares beside the tokens it shares with.
function drawLines() {
  const chosen = active();
  const T = prompt().tokens.length;
  const lines = rows().flatMap(({ shares }, t) =>
    shares
      .map((share, s) => ({ t, s, share }))
      .filter(({ s }) => !chosen || chosen.token === (chosen.side === "from" ? t : s)),
  );
  const visible = lines.filter(({ share }) => shown(share));
  at("lines").setAttribute("viewBox", `0 0 100 ${10 * T}`);
  const drawn = visible.filter(({ share }) => share >= FAINTEST);
  at("lines").replaceChildren(...drawn.map((each) => line(each, chosen ? Math.sqrt(each.share) : each.share)));
  const beside = new Map(chosen ? visible.map(({ t, s, share }) => [chosen.side === "from" ? s : t, share]) : []);
  for (const button of viewer.querySelectorAll("button[data-side]")) {
    const token = +button.dataset.token;
    const own = chosen?.side === button.dataset.side;
    const share = own ? undefined : beside.get(token);
    button.lastChild.textContent = share === undefined ? "" : share.toFixed(3);
    button.ariaPressed = state.token === token && state.side === button.dataset.side;
    button.classList.toggle("active", own && chosen.token === token);
    button.tabIndex = token === (own ? chosen.token : 0) ? 0 : -1;
  }
  tell(chosen);
}

function line({ t, s, share }, opacity) {
  const path = document.createElementNS(at("lines").namespaceURI, "path");
  const [from, to] = [10 * t + 5, 10 * s + 5];
  path.setAttribute("d", `M0 ${from}C50 ${from} 50 ${to} 100 ${to}`);
  path.setAttribute("stroke-opacity", opacity.toFixed(3));
  path.setAttribute("stroke-width", (1 + 3 * share).toFixed(2));
  Object.assign(path.dataset, { from: t, to: s });
  return path;
}

// What the token that is active is, and what is hidden of the first token.
function tell(chosen) {
  const locked = state.token === null ? "" : "; locked: click it again, or press Escape, to let go";
  const called = chosen && `Token ${quoted(chosen.token)}: ${identity(chosen.token)}${locked}`;
  say("token", called ?? "Point at a token to see its lines alone; click to lock it.");
  const hidden = rows().map((each) => each.hidden);
  const mean = hidden.slice(1).reduce((sum, share) => sum + share, 0) / (hidden.length - 1);
  const attending = chosen?.side === "from" ? chosen.token : null;
  const own = attending === null ? "" : `${hidden[attending].toFixed(3)} of what ${quoted(attending)} attends to, `;
  const told = `Hidden with the first token: ${own}${mean.toFixed(3)} on average over the tokens after it.`;
  say("hidden", state.sink ? `${told} The shares shown are shares of the rest.` : "");
}

function hover(side, token) {
  hovered = side === undefined ? null : { side, token };
  drawLines();
}

const tokenOf = ({ target }) => target.closest?.("button[data-side]")?.dataset;
const panel = at("tokens");
for (const kind of ["pointerover", "focusin"]) {
  panel.addEventListener(kind, (event) => {
    const found = tokenOf(event);
    if (found) hover(found.side, +found.token);
  });
}
panel.addEventListener("pointerleave", () => hover());
panel.addEventListener("focusout", () => hover());
panel.addEventListener("click", (event) => {
  const found = tokenOf(event);
  if (found) lock(found.side, +found.token);
});
panel.addEventListener("keydown", (event) => {
  const found = tokenOf(event);
  if (!found || !(event.key in MOVES) || !plain(event)) return;
  event.preventDefault();
  const [down, right] = MOVES[event.key];
  const side = right ? (right > 0 ? "to" : "from") : found.side;
  at(side).children[clamp(+found.token + down, 0, prompt().tokens.length - 1)].focus();
});
