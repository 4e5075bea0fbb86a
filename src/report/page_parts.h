#pragma once
// Style and script of report.html. The script sorts tables, keeps their first columns in view and shows configs; without it
// everything can still be read.

#include <string_view>

namespace aimerge {

inline constexpr std::string_view kPageStyle = R"(
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 100rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p.answer { font-size: 1.15rem; max-width: 62rem; margin: .6rem 0; }
p.caption, p.note, ul.notes, ul.facts { color: #444; max-width: 62rem; } ul.notes, ul.facts { padding-left: 1.2rem; }
div.plot + p.caption { margin-top: .2rem; }
ul.notices, p.missing { border-left: 4px solid #d55e00; padding: .4rem 0 .4rem 2rem; max-width: 62rem; } p.missing { padding-left: 1rem; }
div.table { overflow: auto; max-height: 90vh; width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: left; vertical-align: baseline; white-space: nowrap; }
td:last-child:not(.number) { white-space: normal; min-width: 8rem; }
th { border-bottom: 2px solid #1a1a1a; position: sticky; top: 0; background: #fff; z-index: 2; cursor: pointer; }
th:hover, th:focus-visible { background: #f2f6fa; } th[aria-sort=ascending]::after { content: ' \25B2'; } th[aria-sort=descending]::after { content: ' \25BC'; }
tbody tr { background: #fff; } tbody tr:hover { background: #f2f6fa; } tr.part > td { border-top: 1px solid #999; }
table.sorted tr.part > td { border-top: 0; }
.stuck { position: sticky; background: inherit; z-index: 1; } th.stuck { background: #fff; z-index: 3; }
.edge { box-shadow: 1px 0 0 #ccc; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
small { color: #555; margin-left: .35em; } small::before { content: '('; } small::after { content: ')'; } small.less { color: #a33c00; }
a { color: #0060a0; } a.config { font-size: .75rem; margin-left: .5em; }
pre { font-size: .8rem; line-height: 1.35; background: #f6f6f6; padding: .6rem .8rem; overflow: auto; margin: .5rem 0; }
dialog { max-width: min(60rem, 90vw); border: 1px solid #999; border-radius: 6px; } dialog pre { max-height: 60vh; }
@media print { div.table { overflow: visible; max-height: none; } #figure-controls, a.config { display: none; } }
figure { margin: 0; } figure svg { max-width: 100%; height: auto; } details { margin: .3rem 0; } summary { cursor: pointer; }
)";

inline constexpr std::string_view kPageScript = R"(
'use strict';
// Sorts by a column: numbers as such, the best first; a second click turns the order. Cells without a value come last.
function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column], numeric = head.classList.contains('number');
  const first = numeric && head.dataset.lower === undefined ? 'descending' : 'ascending';
  const other = first === 'ascending' ? 'descending' : 'ascending';
  const order = head.getAttribute('aria-sort') === first ? other : first, sign = order === 'ascending' ? 1 : -1;
  const valueOf = row => {
    const cell = row.cells[column];
    if (!numeric) return cell.dataset.text || null;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const compare = (a, b) => numeric ? a - b : a.localeCompare(b, 'en', {numeric: true});
  const rows = [...table.tBodies[0].rows].map(row => [valueOf(row), row]);
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', order);
  table.classList.add('sorted');
}

// The columns that say what a row is stay in view, as many as leave room for the others.
function stickColumns() {
  for (const box of document.querySelectorAll('div.table')) {
    const table = box.querySelector('table');
    for (const cell of table.querySelectorAll('.stuck')) cell.classList.remove('stuck', 'edge');
    let left = 0, last = [];
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const width = head.getBoundingClientRect().width;
      if (head.classList.contains('number') || left + width > 0.65 * box.clientWidth) break;
      last = [...table.rows].map(row => row.cells[column]);
      for (const cell of last) { cell.classList.add('stuck'); cell.style.left = left + 'px'; }
      left += width;
      if (head.textContent === 'model') break;  // which says everything
    }
    for (const cell of last) cell.classList.add('edge');
  }
}

// Opens the config of a merge; false when the page has none of it.
function showConfig(model) {
  const source = [...document.querySelectorAll('details[data-model]')].find(entry => entry.dataset.model === model);
  if (!source) return false;
  const dialog = document.getElementById('config');
  dialog.querySelector('h3').textContent = model;
  dialog.querySelector('pre').textContent = source.querySelector('pre').textContent;
  dialog.querySelector('.copy').textContent = 'Copy';
  dialog.showModal();
  return true;
}

for (const table of document.querySelectorAll('div.table table'))
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    head.tabIndex = 0;
    head.title = 'Sort by this column';
    head.addEventListener('click', () => sortBy(table, column));
    head.addEventListener('keydown', event => { if (event.key === 'Enter') sortBy(table, column); });
  }
document.addEventListener('click', event => {
  const link = event.target.closest('a.config');
  if (link && showConfig(document.querySelector(link.getAttribute('href')).dataset.model)) event.preventDefault();
});
const configDialog = document.getElementById('config');
if (configDialog) {
  const text = configDialog.querySelector('pre'), copy = configDialog.querySelector('.copy');
  copy.addEventListener('click', async () => {
    getSelection().selectAllChildren(text);
    try { await navigator.clipboard.writeText(text.textContent); } catch { document.execCommand('copy'); }
    copy.textContent = 'Copied';
  });
  configDialog.querySelector('.close').addEventListener('click', () => configDialog.close());
}
stickColumns();
addEventListener('resize', stickColumns);
)";

}  // namespace aimerge
