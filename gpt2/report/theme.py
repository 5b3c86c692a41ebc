"""One look for every figure: SVG, of stable bytes, that adapts to a light or dark page.

Figures have no background. Lines and text use the colours below; a style sheet inside each SVG replaces them where the
reader prefers a dark scheme, and sets text in the reader's own sans-serif. Heat maps are one colour, more or less
opaque, which reads on either background.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gpt2.report.text import printable

INK, MUTED, FAINT = "#23272e", "#68707c", "#d9dde3"
BLUE, ORANGE, GREEN = "#2563b8", "#c2570c", "#2e7d4f"
DARK = {  # what stands for each colour on a dark page
    INK: "#e4e7eb",
    MUTED: "#9aa3af",
    FAINT: "#3a414b",
    BLUE: "#74a9f2",
    ORANGE: "#f0964f",
    GREEN: "#74c695",
}
HEAT = LinearSegmentedColormap.from_list("heat", ["#3b7dd808", "#3b7dd8ff"]).with_extremes(bad="#00000000")
DIVERGING = LinearSegmentedColormap.from_list(  # clear at zero
    "diverging", [(0, "#d9722eff"), (0.5, "#d9722e00"), (0.5, "#3b7dd800"), (1, "#3b7dd8ff")]
)
MODELS = {"trained": "this run", "initial": "random initialization", "openai": "OpenAI's weights"}  # titles by name

RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.sans-serif": ["DejaVu Sans"],  # what matplotlib measures with: wider than most, so nothing overlaps
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, sharp, and set in any script
    "svg.hashsalt": "gpt2",
    "text.color": INK,
    "text.parse_math": False,  # a token may be a dollar sign
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.color": FAINT,
    "ytick.labelcolor": MUTED,
}


@contextmanager
def styled() -> Iterator[None]:
    """The settings under which figures are drawn and written. Characters that the measuring font lacks are no matter:
    the reader's fonts set the text."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def to_svg(figure: Figure) -> str:
    """The figure as SVG; call it inside `styled`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return printable(buffer.getvalue()).replace("<defs>", f"<defs>\n  <style>{_css()}</style>", 1)


def _css() -> str:
    swaps = "".join(
        f'[style*="{role}: {light}"]{{{role}:{dark}!important}}'
        for light, dark in DARK.items()
        for role in ("fill", "stroke")
    )
    return f"text{{font-family:system-ui,sans-serif!important}}@media(prefers-color-scheme:dark){{{swaps}}}"


def bare(axes: Axes) -> None:
    """Takes away what a heat map does not need: grid, spines and tick marks."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def name_line(axes: Axes, y: float, text: str, color: str = MUTED, side: str = "right") -> None:
    """A dashed horizontal line, named where it ends, or where it begins."""
    axes.axhline(y, color=color, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        text,
        (1 if side == "right" else 0, y),
        xycoords=("axes fraction", "data"),
        xytext=(0 if side == "right" else 4, 3),
        textcoords="offset points",
        color=color,
        ha=side,
        va="bottom",
    )
