"""Draws the figures of `aimerge report` with matplotlib: FOLDER/NAME.svg and FOLDER/NAME.png for every figure of DATA.json.

    python draw_report.py DATA.json FOLDER

Started by aimerge, which computes everything that is shown. Answers on standard output with one message, its length (8 bytes,
little-endian) and its text: empty, or why nothing was drawn.
"""
import json
import math
import pathlib
import re
import sys

TEXT_WIDTH = 7.0      # inches: two columns of a paper; panels are two or three to a row
POINTS = 8            # of the text at that width
# Okabe and Ito: told apart with every kind of colour vision. Markers and dashes tell methods apart without colour.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
REFERENCE = {"color": "0.45", "linestyle": ":", "linewidth": 1}
DASHES = ["-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1))]


def style(methods):
    """{method: keyword arguments of a line}, the same in every figure."""
    return {method: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)],
                     "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]} for i, method in enumerate(methods)}


def grid_of_panels(plt, count, columns, height):
    """Axes of `count` panels, `columns` to a row, each `height` inches high."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(TEXT_WIDTH if columns > 1 else TEXT_WIDTH / 2, rows * height),
                                squeeze=False, layout="constrained")
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def add_legend(figure, methods, styles, references):
    import matplotlib.lines as lines
    handles = [lines.Line2D([], [], label=method, **styles[method]) for method in methods]
    handles += [lines.Line2D([], [], label=name, **REFERENCE) for name in references]
    width, height = figure.get_size_inches()
    columns = min(len(handles), 5 if width >= TEXT_WIDTH else 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    # A panel's height has room for three lines of the legend.
    figure.set_size_inches(width, height + 0.17 * max(0, math.ceil(len(handles) / columns) - 3))


def used_methods(data):
    used = {line["method"] for panel in data["panels"] for line in panel["lines"]}
    return [method for method in data["methods"] if method in used]


def draw_gain(plt, data):
    methods = used_methods(data)
    figure, axes = grid_of_panels(plt, len(data["panels"]), 2, 0.7 + 0.22 * len(methods))
    styles = style(data["methods"])
    for axis, panel in zip(axes, data["panels"]):
        lines = {line["method"]: line for line in panel["lines"]}
        for row, method in enumerate(methods):
            if method not in lines:
                continue
            line, colour = lines[method], styles[method]["color"]
            axis.plot([line["without"], line["with"]], [row, row], color=colour, linewidth=1)
            axis.plot(line["with"], row, marker="o", markersize=4.5, color=colour, linestyle="")
            axis.plot(line["without"], row, marker="o", markersize=4.5, color=colour, markerfacecolor="white", linestyle="")
        axis.set_yticks(range(len(methods)), methods)
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_title(panel["title"])
        axis.set_xlabel("HV gain")
        axis.grid(axis="x")
        axis.margins(x=0.08)
    return figure


def draw_lines(plt, data, columns, height, x_label, y_label):
    styles = style(data["methods"])
    figure, axes = grid_of_panels(plt, len(data["panels"]), columns, height)
    for axis, panel in zip(axes, data["panels"]):
        for line in panel["lines"]:
            axis.plot(line["x"], line["y"], **styles[line["method"]])
        for reference in panel.get("references", []):
            axis.axhline(reference["y"], **REFERENCE)
        axis.set_title(panel["title"])
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label(panel))
        axis.set_xticks(sorted({x for line in panel["lines"] for x in line["x"]}) if fits(panel) else [0, 0.25, 0.5, 0.75, 1])
        axis.set_xlim(-0.05, 1.05)
        axis.grid()
    add_legend(figure, used_methods(data), styles,
               dict.fromkeys(reference["name"] for panel in data["panels"] for reference in panel.get("references", [])))
    return figure


def fits(panel):
    """Whether every value of omega can have a tick of its own."""
    values = sorted({x for line in panel["lines"] for x in line["x"]})
    return len(values) <= 7 and all(b - a >= 0.099 for a, b in zip(values, values[1:]))


def draw_relative_gain(plt, data):
    figure = draw_lines(plt, data, 2, 2.4, "1 \N{MINUS SIGN} \N{GREEK SMALL LETTER OMEGA}", lambda panel: "change of HV gain [%]")
    for axis in figure.axes:
        axis.axhline(0, color="0.45", linewidth=0.8)
    return figure


def draw_benchmarks(plt, data):
    def label(panel):
        return "perplexity, lower is better" if panel["lower_is_better"] else "score [%]"

    many = len(used_methods(data)) > len(COLOURS)
    return draw_lines(plt, data, 2 if many else 3, 2.6 if many else 2.0, "\N{GREEK SMALL LETTER OMEGA}", label)


def draw_activations(plt, data):
    import matplotlib.colors as colors
    import numpy as np
    layers = data["layers"]
    figure, axes = plt.subplots(1, 2, figsize=(TEXT_WIDTH, min(8.5, 1.3 + 0.1 * max(15, len(layers)))), sharey=True,
                                layout="constrained")
    values = [np.array([[math.nan if x is None else x for x in row] for row in data[key]], dtype=float)
              for key in ("mean_abs", "mean_importance")]
    positive = values[0][values[0] > 0]
    logarithmic = colors.LogNorm(positive.min(), positive.max()) if positive.size else None
    for axis, grid, norm, title in zip(axes, values, (logarithmic, None), ("mean |x| of the inputs", "mean A of the input channels")):
        image = axis.imshow(grid, aspect="auto", cmap="viridis", norm=norm, interpolation="nearest")
        figure.colorbar(image, ax=axis)
        axis.set_title(title)
        axis.set_xticks(range(len(data["modules"])), data["modules"], rotation=90)
        axis.set_xlabel("module")
    axes[0].set_ylabel("layer")
    step = max(1, math.ceil(len(layers) / 20))
    axes[0].set_yticks(range(0, len(layers), step), layers[::step])
    return figure


DRAW = {"gain": draw_gain, "relative_gain": draw_relative_gain, "benchmarks": draw_benchmarks,
        "activations": draw_activations}


def save(figure, folder, name):
    """Identifiers in the SVG begin with the figure's name, so that several can stand in one page."""
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', lambda match: match.group(1) + name + "-", text)
    path.write_text(text, encoding="utf-8")
    figure.savefig(folder / f"{name}.png", dpi=200)


def draw_all(data_file, folder):
    try:
        import matplotlib
    except ImportError:
        return f"{sys.executable} has no matplotlib"
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({
        "font.size": POINTS, "axes.titlesize": POINTS, "axes.labelsize": POINTS, "legend.fontsize": POINTS,
        "xtick.labelsize": POINTS - 1, "ytick.labelsize": POINTS - 1, "lines.linewidth": 1.2, "lines.markersize": 3.5,
        "axes.spines.top": False, "axes.spines.right": False, "grid.color": "0.9", "axes.axisbelow": True,
        "svg.fonttype": "path", "svg.hashsalt": "aimerge", "figure.facecolor": "white"})
    for data in json.loads(data_file.read_text(encoding="utf-8")):
        figure = DRAW[data["kind"]](plt, data)
        save(figure, folder, data["name"])
        plt.close(figure)
    return ""


def main():
    answer = draw_all(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])).encode()
    sys.stdout.buffer.write(len(answer).to_bytes(8, "little") + answer)


if __name__ == "__main__":
    main()
