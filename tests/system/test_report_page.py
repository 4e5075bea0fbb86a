"""The page of aimerge report in a browser: its figure is drawn, filters and sorting work, a config can be had."""
import csv
import html
import io
import json
import pathlib
import re
import shutil
import subprocess
import unittest

from aimerge_command import AimergeTest

PRINTED = pathlib.Path(__file__).resolve().parents[2] / "configs" / "paper" / "printed"


def find_chromium():
    """One that starts: Ubuntu has a command that only says that it is a snap."""
    for name in ("chromium", "chromium-browser"):
        if shutil.which(name) and subprocess.run([name, "--version"], capture_output=True).returncode == 0:
            return name
    return None


CHROMIUM = find_chromium()
METHODS = ("ties", "linear")
COMBINATIONS = ("code+math", "code+instruct", "code+instruct+math")
OMEGAS = (1.0, 0.7, 0.4)
CONFIG = "merge_method: {}\nmodels:\n  - model: a<b>&\"c\"\n"


def model_name(method, combination, omega):
    return f"{method}-{combination}-omega-{omega}"


def points():
    """Rows of points.csv. @returns {model: row}"""
    rows = [["base", "base", "", "", "", "", "done", 12, 20, 10, 25.5]]
    rows += [[name, "expert", "", "", "", "", "done", *scores] for name, scores in (
        ("code", (10, 90, 15, 31)), ("math", (80, 15, 10, 32)), ("instruct", (20, 25, 85, 39)))]
    for m, method in enumerate(METHODS):
        for c, combination in enumerate(COMBINATIONS):
            for w, omega in enumerate(OMEGAS):
                scores = (50 + 5 * w - 6 * m - 3 * c, 60 - 4 * w + 7 * m + 2 * c, 30 + 9 * c + 2 * w, 60.25 - 10 * w + m)
                rows.append([model_name(method, combination, omega), "merged", method, combination, omega, "yes" if w else "no", "done", *scores])
    header = ["model", "kind", "method", "combination", "omega", "aim", "status", "math", "code", "instruct", "general:ppl"]
    return {row[0]: dict(zip(header, row)) for row in rows}


# Runs in the page, with what it finds in an element that is dumped with it.
STEPS = """
<pre id="found"></pre>
<script>
const found = {}, wait = async ready => { while (!ready()) await new Promise(done => setTimeout(done, 50)); };
const figure = document.getElementById('figure'), drawings = () => Number(figure.dataset.drawn || 0);
const labels = name => [...document.querySelectorAll(`#figure-${name} [aria-roledescription=point]`)].map(p => p.getAttribute('aria-label'));
const column = (table, c) => [...document.querySelectorAll(`#table-${table} tbody tr`)].map(row => row.cells[c].innerText);
async function redrawn(action) { const before = drawings(); action(); await wait(() => drawings() > before); }
(async () => {
  await wait(() => drawings() > 0);
  found.plane = labels('plane');
  await redrawn(() => document.querySelector('[name=method][value=linear]').click());
  found.onlyTies = labels('plane');
  found.address = location.hash;
  await redrawn(() => document.querySelector('button[data-all=method]').click());
  await redrawn(() => { const x = document.querySelector('[name=x]'); x.value = 'v4'; x.dispatchEvent(new Event('change', {bubbles: true})); });
  found.perplexity = document.querySelector('#figure-plane').textContent;
  found.rings = [...document.querySelectorAll('#figure-plane [aria-roledescription=point]')]
    .filter(p => p.getAttribute('stroke') === '#555555').map(p => p.getAttribute('aria-label'));
  const heads = [...document.querySelectorAll('#table-scores th')], head = name => heads.findIndex(h => h.innerText.startsWith(name));
  heads[head('HV gain')].click();
  found.byGain = column('scores', head('HV gain'));
  heads[head('general:ppl')].click();
  found.byPerplexity = column('scores', head('general:ppl'));
  heads[head('general:ppl')].click();
  found.byPerplexityTurned = column('scores', head('general:ppl'));
  heads[head('model')].click();
  found.byModel = column('scores', 0);
  const box = document.querySelector('#table-scores'), first = box.querySelector('tbody td');
  box.scrollLeft = 200;
  found.scrolled = [box.scrollLeft > 0, Math.round(first.getBoundingClientRect().left - box.getBoundingClientRect().left)];
  const row = [...document.querySelectorAll('#table-ablation tbody tr')].find(r => r.querySelector('a.config'));
  found.configOf = [row.cells[0].firstChild.textContent.trim(), row.cells[1].innerText, row.cells[2].innerText];
  row.querySelector('a.config').click();
  const dialog = document.getElementById('config');
  found.config = [dialog.open, dialog.querySelector('h3').textContent, dialog.querySelector('pre').textContent];
  dialog.close();
  const point = document.querySelector('#figure-gain [aria-roledescription=point]');
  function send(element, kinds) {
    const at = element.getBoundingClientRect(), where = {bubbles: true, clientX: at.x + at.width / 2, clientY: at.y + at.height / 2};
    for (const kind of kinds) element.dispatchEvent(new PointerEvent(kind, where));
    return document.getElementById('vg-tooltip-element').innerText;
  }
  const base = [...document.querySelectorAll('#figure-plane [aria-roledescription=point]')].find(p => p.getAttribute('aria-label').endsWith('model: base'));
  found.hoverBase = send(base, ['pointermove', 'mousemove']);
  found.hover = send(point, ['pointermove', 'mousemove']);
  send(point, ['pointerdown', 'pointerup', 'click']);
  found.clicked = [dialog.open, dialog.querySelector('h3').textContent];
  found.loaded = performance.getEntriesByType('resource').map(entry => entry.name);
})().catch(error => { found.error = String(error); }).finally(() => { document.getElementById('found').textContent = JSON.stringify(found); });
</script>
"""

# What is wider than its frame, once the figures are drawn. Tables scroll in frames of their own.
WIDTHS = """
<pre id="found"></pre>
<script>
(async () => {
  const figure = document.getElementById('figure'), root = document.documentElement;
  while (!Number(figure.dataset.drawn || 0)) await new Promise(done => setTimeout(done, 50));
  const drawn = [...document.querySelectorAll('#figure .plot svg')];
  const right = element => Math.round(element.getBoundingClientRect().right);
  return {width: window.innerWidth, page: root.scrollWidth - root.clientWidth, plots: drawn.length,
          outside: drawn.filter(svg => right(svg) > right(figure) + 1).map(svg => svg.closest('.plot').id),
          narrow: drawn.filter(svg => svg.getBoundingClientRect().width < 250).map(svg => svg.closest('.plot').id)};
})().catch(error => ({error: String(error)})).then(found => { document.getElementById('found').textContent = JSON.stringify(found); });
</script>
"""


@unittest.skipUnless(CHROMIUM, "there is no chromium: on Debian, launch/setup.sh --test installs it")
class ReportPageTest(AimergeTest):

    def setUp(self):
        super().setUp()
        self.points = points()
        sweep = self.folder / "sweep"
        sweep.mkdir()
        out = io.StringIO()
        writer = csv.DictWriter(out, next(iter(self.points.values())).keys())
        writer.writeheader()
        writer.writerows(self.points.values())
        (sweep / "points.csv").write_text(out.getvalue())
        (sweep / "journal").write_text("".join(json.dumps(
            {"point": name, "key": "k", "status": "done", "seconds": 1, "error": "", "scored_by": "", "config": CONFIG.format(row["method"]),
             "scores": []}) + "\n" for name, row in self.points.items() if row["kind"] == "merged"))
        self.aimerge("report", sweep)
        self.page = sweep / "report" / "report.html"

    def dom(self, page, fragment="", width=800):
        result = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={self.folder / 'browser'}", "--virtual-time-budget=20000",
             f"--window-size={width},900", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom", f"file://{page}{fragment}"],
            text=True, capture_output=True, timeout=200)
        self.assertEqual([], re.findall(r"CONSOLE.*(?:Uncaught|WARN|ERROR).*", result.stderr))
        return result.stdout

    def found(self, page, script, **options):
        """What a script finds in the page."""
        scripted = page.with_name("scripted.html")
        scripted.write_text(page.read_text(encoding="utf-8") + script, encoding="utf-8")
        return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', self.dom(scripted, **options), re.DOTALL).group(1)))

    def merges(self, **wanted):
        return [row for row in self.points.values() if row["kind"] == "merged" and all(row[key] in values for key, values in wanted.items())]

    def labelled(self, labels, name):
        """The models of points by their labels: "...; model: NAME"."""
        return sorted(match.group(1) for label in labels if (match := re.search(name + r": ([^;]+)$", label)))

    def test_what_is_clicked_is_shown(self):
        found = self.found(self.page, STEPS)

        self.assertNotIn("error", found)
        self.assertEqual(found["loaded"], [])
        at_omega = [row["model"] for row in self.merges(omega=(1.0, 0.4))]
        others = ["base", "code", "instruct", "math"]
        self.assertEqual(self.labelled(found["plane"], "model"), sorted(at_omega + others))
        self.assertEqual(self.labelled(found["onlyTies"], "model"), sorted([name for name in at_omega if name.startswith("ties")] + others))
        self.assertEqual(found["address"], "#method=ties")

        self.assertIn("general:ppl (lower is better)", found["perplexity"])
        shown = [row for row in self.points.values() if row["model"] in at_omega + others]
        front = {(row["general:ppl"], row["code"]) for row in shown if not any(
            other["general:ppl"] <= row["general:ppl"] and other["code"] >= row["code"]
            and (other["general:ppl"], other["code"]) != (row["general:ppl"], row["code"]) for other in shown)}
        rings = {tuple(float(number) for number in re.findall(r": ([\d.]+)", label)) for label in found["rings"]}
        self.assertEqual(rings, front)

        leading = lambda texts: [float(match.group()) for text in texts if (match := re.match(r"[\d.]+", text))]
        gains = leading(found["byGain"])
        self.assertEqual(len(gains), len(self.merges()))
        self.assertEqual(gains, sorted(gains, reverse=True))
        self.assertEqual(found["byGain"][len(gains):], ["\N{EN DASH}"] * 4)
        perplexities = sorted(row["general:ppl"] for row in self.points.values())
        self.assertEqual(leading(found["byPerplexity"]), perplexities)
        self.assertEqual(leading(found["byPerplexityTurned"]), perplexities[::-1])
        self.assertEqual(sorted(found["byModel"]), sorted(found["byModel"], key=str))
        self.assertEqual(found["byModel"][0].split()[0], "base")
        self.assertEqual(found["scrolled"], [True, 0])  # the column of names stays where it is

        method, experts, aim = found["configOf"]
        name = model_name(method, experts.replace(" ", ""), 0.4 if aim == "yes" else 1.0)
        self.assertEqual(found["config"], [True, name, CONFIG.format(method)])
        self.assertEqual(found["hoverBase"].split(), ["base", "math", "12.00", "code", "20.00", "instruct", "10.00", "general:ppl", "25.50"])
        self.assertIn(CONFIG.format("ties").strip(), found["hover"])
        self.assertTrue(found["clicked"][0])
        self.assertIn(found["clicked"][1], self.points)
        self.assertIn(found["clicked"][1], found["hover"])

    def test_the_address_says_what_is_shown(self):
        dom = self.dom(self.page, "#combination=code+%2B+math&omega=all&x=v3&y=v1&measure=v2")

        def plot(name):
            return re.search(rf'<div class="plot[^>]*id="figure-{name}".*?</svg>', dom, re.DOTALL).group()

        merges = self.merges(combination=("code+math",))
        labels = re.findall(r'aria-label="([^"]*)"[^>]*aria-roledescription="point"|aria-roledescription="point"[^>]*aria-label="([^"]*)"', plot("plane"))
        self.assertEqual(self.labelled(["".join(pair) for pair in labels], "model"),
                         sorted([row["model"] for row in merges] + ["base", "code", "math"]))
        for text in ("instruct", "math"):
            self.assertRegex(plot("plane"), rf'<text[^>]*>{text}</text>')
        self.assertNotIn("code + instruct", plot("gain"))
        self.assertRegex(plot("gain"), r"<text[^>]*>code</text>")
        curves = plot("curves")
        self.assertEqual(curves.count('aria-roledescription="line mark"'), len(METHODS))

    def test_nothing_is_wider_than_the_page(self):
        self.aimerge("report", "--scores", PRINTED / "table1.csv", "--compare-paper", "--out", "paper")
        for page, plots in ((self.page, 3), (self.folder / "paper" / "report.html", 2)):  # the paper has one omega: no curves
            for width in (800, 1400):
                with self.subTest(page=page.parent.name, width=width):
                    found = self.found(page, WIDTHS, width=width)
                    self.assertEqual(found, {"width": width, "page": 0, "plots": plots, "outside": [], "narrow": []})


if __name__ == "__main__":
    unittest.main()
