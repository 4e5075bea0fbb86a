"""Makes the interactive figure of report.html: the HTML of its controls and plots, with Vega-Lite and the data inside.

Started by aimerge, which computes everything that is shown and sends it as JSON (include/aimerge/report/interactive_figure.h);
messages as in helper_messages.py. Strings of a specification that begin with "$" are filled in by interactive_figure.js, by
what is chosen on the page.
"""
import html
import json
import pathlib
import sys

from draw_report import COLOURS
from helper_messages import missing_package, run

VEGA_LITE = "6.4"
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left"]
DASHES = [[1, 0], [5, 3], [1, 2], [5, 2, 1, 2]]  # one per round of colours
GREY = "#555555"
POINT = {"type": "point", "size": 70, "strokeWidth": 1.6, "opacity": 1, "cursor": "pointer"}
TOOLTIP = {"field": "model", "type": "nominal"}  # the page shows what belongs to the name
CONFIG = {
    "font": "system-ui, sans-serif", "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "gridColor": "#e8e8e8", "domainColor": "#888",
             "tickColor": "#888", "labelLimit": 320, "labelOverlap": True},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "symbolSize": 80, "labelLimit": 240},
    "header": {"labelFontSize": 13, "labelFontWeight": "bold", "labelLimit": "$headerLimit", "title": None}}


LEGEND = {"orient": "bottom", "columns": "$legendColumns", "title": None, "symbolOpacity": 1}


def by_method(methods, values):
    return {"field": "method", "type": "nominal", "legend": LEGEND,
            "scale": {"domain": methods, "range": [values[i % len(values)] for i in range(len(methods))]}}


def point_channels(methods):
    """Colour and shape, which tells methods apart without colour; filled with AIM, open without."""
    return {"color": by_method(methods, COLOURS), "shape": by_method(methods, SHAPES),
            "fill": {"condition": {"test": "datum.aim", **by_method(methods, COLOURS)}, "value": "white"}}


CHOSEN = [{"field": "method", "oneOf": "$methods"}, {"field": "combination", "oneOf": "$combinations"}]
CHOSEN_OMEGA = {"or": ["!datum.aim", {"field": "omega", "oneOf": "$omegas"}]}


def gain_spec(data):
    """One row per method and combination: open without AIM, filled with it."""
    y = {"field": "method", "type": "nominal", "sort": data["methods"], "title": None}
    x = {"type": "quantitative", "title": "$measureTitle", "scale": {"zero": False, "nice": False, "padding": 10},
         "axis": {"tickCount": 6}}
    colour = {**by_method(data["methods"], COLOURS), "legend": None}
    return {
        "data": {"values": "$models"},
        "transform": [{"filter": {"and": ["datum.aim", *CHOSEN, CHOSEN_OMEGA, {"field": "$measure", "valid": True},
                                          {"field": "$plain", "valid": True}]}}],
        "facet": {"field": "combination", "type": "nominal", "sort": data["combinations"]}, "columns": "$columns",
        "spec": {
            "width": "$gainWidth", "height": {"step": 20},
            "encoding": {"y": y, "color": colour},
            "layer": [
                {"mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6},
                 "encoding": {"x": {"field": "$plain", **x}, "x2": {"field": "$measure"}}},
                {"mark": {**POINT, "fill": "white"}, "encoding": {"x": {"field": "$plain", **x}, "tooltip": {"field": "plain", "type": "nominal"}}},
                {"mark": {**POINT, "filled": True}, "encoding": {"x": {"field": "$measure", **x}, "tooltip": TOOLTIP}}]},
        "resolve": {"axis": {"x": "independent"}}}


def plane_spec(data):
    """Two benchmarks against each other, with the front of what is shown."""
    x = {"field": "$x", "type": "quantitative", "title": "$xTitle", "scale": {"zero": False, "nice": False, "padding": 14}}
    y = {"field": "$y", "type": "quantitative", "title": "$yTitle", "scale": {"zero": False, "nice": False, "padding": 14}}
    channels = point_channels(data["methods"])
    shown_models = {"or": [{"and": ["datum.kind == 'merged'", *CHOSEN, CHOSEN_OMEGA]},
                           {"and": ["datum.kind == 'expert'", {"field": "expert", "oneOf": "$experts"}]}, "datum.kind == 'base'"]}
    down_x = [{"field": "$x", "order": "$xOrder"}, {"field": "$y", "order": "$yOrder"}]
    merged = {"filter": "datum.kind == 'merged'"}
    not_merged = {"filter": "datum.kind != 'merged'"}
    return {
        "data": {"values": "$models"},
        "transform": [{"filter": {"and": [shown_models, {"field": "$x", "valid": True}, {"field": "$y", "valid": True}]}}],
        "width": "$width", "height": "$planeHeight",
        "layer": [
            {"mark": {"type": "line", "interpolate": "$frontSteps", "stroke": GREY, "strokeWidth": 1.2, "strokeDash": [4, 3],
                      "point": {"shape": "circle", "size": 230, "filled": False, "stroke": GREY, "strokeWidth": 1.2, "opacity": 1}},
             "transform": [{"window": [{"op": "$frontBest", "field": "$y", "as": "best"}], "sort": down_x, "ignorePeers": True},
                           {"window": [{"op": "lag", "field": "best", "as": "before"}], "sort": down_x, "ignorePeers": True},
                           {"filter": "$isOnFront"}],
             "encoding": {"x": x, "y": y}},
            {"mark": {"type": "rule", "opacity": 0.35},
             "transform": [{"filter": {"and": ["datum.aim", {"field": "$xPlain", "valid": True}, {"field": "$yPlain", "valid": True}]}}],
             "encoding": {"x": x, "y": y, "x2": {"field": "$xPlain"}, "y2": {"field": "$yPlain"}, "color": channels["color"]}},
            {"mark": POINT, "transform": [merged],
             "encoding": {"x": x, "y": y, **channels, "tooltip": TOOLTIP}},
            {"mark": {"type": "point", "shape": "cross", "filled": True, "color": "black", "size": 80, "opacity": 1},
             "transform": [not_merged], "encoding": {"x": x, "y": y, "tooltip": TOOLTIP}},
            {"mark": {"type": "text", "align": {"expr": "$labelAlign"}, "dx": {"expr": "$labelShift"},
                      "dy": {"expr": "datum.kind == 'base' ? 10 : -9"}, "fontSize": 12, "limit": 160},
             "transform": [not_merged],
             "encoding": {"x": x, "y": y, "text": {"field": "model"}}}]}


def curves_spec(data):
    """One measure over omega, a panel per combination."""
    x = {"field": "omega_value", "type": "quantitative", "title": "\N{GREEK SMALL LETTER OMEGA}",
         "scale": {"domain": [0, 1], "padding": 8}, "axis": {"values": [0, 0.2, 0.4, 0.6, 0.8, 1]}}
    y = {"field": "$measure", "type": "quantitative", "title": "$measureTitle", "scale": {"zero": False, "nice": False, "padding": 10}, "axis": {"tickCount": 6}}
    channels = point_channels(data["methods"])
    line = {"color": channels["color"]}
    if len(data["methods"]) > len(COLOURS):
        line["strokeDash"] = by_method(data["methods"], [dash for dash in DASHES for _ in COLOURS])
    return {
        "data": {"values": "$models"},
        "transform": [{"filter": {"and": ["datum.kind == 'merged'", *CHOSEN, {"field": "omega_value", "valid": True},
                                          {"field": "$measure", "valid": True}]}}],
        "facet": {"field": "combination", "type": "nominal", "sort": data["combinations"]}, "columns": "$columns",
        "spec": {
            "width": "$curveWidth", "height": 220, "encoding": {"x": x, "y": y},
            "layer": [
                {"mark": {"type": "line", "strokeWidth": 1.6}, "encoding": line},
                {"mark": POINT, "encoding": {**channels, "tooltip": TOOLTIP}}]},
        "resolve": {"axis": {"x": "independent", "y": "independent"}}}


def select(name, label, options):
    """@param options {value: text}"""
    entries = "".join(f'<option value="{html.escape(value)}">{html.escape(text)}</option>' for value, text in options.items())
    return f'<label>{label} <select name="{name}">{entries}</select></label>\n'


def checkboxes(name, label, values):
    boxes = "".join(f'<label><input type="checkbox" name="{name}" value="{html.escape(value)}" checked> {html.escape(value)}</label>\n'
                    for value in values)
    return f'<fieldset><legend>{label} <button type="button" data-all="{name}">all / none</button></legend>\n{boxes}</fieldset>\n'


def controls(data, has_measure):
    omegas = {value: value for value in data["omegas"]}
    if len(omegas) > 1:
        omegas["all"] = "all"
    measures = {f"v{i}": measure["name"] for i, measure in enumerate(data["measures"])}
    return ('<form id="figure-controls">\n' + checkboxes("method", "Methods", data["methods"])
            + checkboxes("combination", "Experts merged", data["combinations"])
            + '<p>' + (select("omega", "AIM at \N{GREEK SMALL LETTER OMEGA}", omegas) if omegas else "")
            + (select("measure", "Show", measures) if has_measure else "") + '</p>\n</form>\n')


def plot(name, title, caption, before=""):
    return f'<h3>{title}</h3>\n{before}<div class="plot" id="figure-{name}"></div>\n<p class="caption">{caption}</p>\n'


STYLE = """<style>
#figure-controls fieldset { border: 0; padding: 0; margin: .3rem 0; } #figure-controls legend { font-weight: 600; padding: 0; }
#figure-controls label, .axes label { margin-right: 1rem; white-space: nowrap; display: inline-block; }
#figure-controls button { font-size: .75rem; margin-left: .4rem; } .plot { min-height: 4rem; overflow-x: auto; }
#vg-tooltip-element { max-width: 46rem; font-size: 13px; }
#vg-tooltip-element td { padding: 0 .6rem 0 0; }
</style>
"""


def page_script(code):
    """JavaScript in a page, where nothing in it may end the element."""
    whole = code.replace("</script", "<\\/script")
    return f"<script>{whole}</script>\n"


def page_part(data, library, glue):
    pairs = any("plain" in model for model in data["models"])
    curves = len({model["omega_value"] for model in data["models"] if "omega_value" in model}) > 2
    planes = len(data["measures"]) > 2
    specs, plots = {}, ""
    if pairs:
        specs["gain"] = gain_spec(data)
        plots += plot("gain", "With and without AIM", "Open: without AIM; filled: with AIM."
                      + (" A click on a point opens its config." if data["has_configs"] else ""))
    if planes:
        specs["plane"] = plane_spec(data)
        measures = {f"v{i}": measure["name"] for i, measure in enumerate(data["measures"])}
        plots += plot("plane", "Two benchmarks", "Ringed: Pareto front of what is shown, base and experts included. Open: without "
                      "AIM; filled: with AIM, joined to the same merge without it.",
                      '<p class="axes">' + select("x", "Across", measures) + select("y", "Up", measures) + "</p>\n")
    if curves:
        specs["curves"] = curves_spec(data)
        plots += plot("curves", "Over \N{GREEK SMALL LETTER OMEGA}", "\N{GREEK SMALL LETTER OMEGA} = 1 is the merge without AIM.")
    if not specs:
        return ""
    for spec in specs.values():
        spec["config"] = CONFIG
    content = json.dumps({"data": data, "specs": specs}, ensure_ascii=False).replace("<", "\\u003c")
    return (STYLE + '<noscript><p class="missing">The interactive figure needs JavaScript.</p></noscript>\n<section id="figure">\n'
            + controls(data, pairs or curves) + plots + "</section>\n"
            + f'<script type="application/json" id="figure-data">{content}</script>\n' + page_script(library) + page_script(glue))


def vega_embed():
    """The JavaScript library. An installation has it as a file, which spares its machine the 84 MB of vl-convert."""
    installed = pathlib.Path(__file__).with_name("vega_embed.js")
    if installed.exists():
        return installed.read_text(encoding="utf-8")
    try:
        import vl_convert
    except ImportError as error:
        raise missing_package("vl-convert-python", error) from error
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)


def start():
    library = vega_embed()
    glue = pathlib.Path(__file__).with_name("interactive_figure.js").read_text(encoding="utf-8")
    return lambda request: page_part(json.loads(bytes(request)), library, glue).encode()


if __name__ == "__main__":
    sys.exit(run(start))
