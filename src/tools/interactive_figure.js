'use strict';
// The interactive figure of report.html: what is chosen goes into the specifications, and Vega-Lite draws them. The choice
// stands in the page's address, behind #, so that it can be sent and kept.
{
  const {data, specs} = JSON.parse(document.getElementById('figure-data').textContent);
  const byName = new Map(data.models.map(model => [model.model, model]));
  const names = {method: data.methods, combination: data.combinations};
  const measureAt = value => data.measures[Number(value.slice(1))];
  const section = document.getElementById('figure');

  function inputs(name) { return [...section.querySelectorAll(`[name=${name}]`)]; }
  const fields = [...new Set([...section.querySelectorAll('[name]')].map(input => input.name))];

  const first = {omega: data.shown_omega, measure: 'v0', x: 'v1', y: 'v2'};
  function choose(choice) {
    for (const name of fields)
      for (const input of inputs(name)) {
        if (input.type === 'checkbox') input.checked = !choice.has(name) || choice.getAll(name).includes(input.value);
        else if ([...input.options].some(option => option.value === choice.get(name))) input.value = choice.get(name);
        else if (first[name] !== null) input.value = first[name];
      }
  }
  function chosen(name) {
    const all = inputs(name);
    if (all.length === 0) return [];
    return all[0].type === 'checkbox' ? all.filter(input => input.checked).map(input => input.value) : [all[0].value];
  }
  function remember() {
    const choice = new URLSearchParams();
    for (const name of fields) {
      const values = chosen(name);
      if (name in names ? values.length < names[name].length : values[0] !== first[name])
        for (const value of values.length > 0 ? values : ['']) choice.append(name, value);
    }
    history.replaceState(null, '', '#' + choice);
  }

  function title(measure) { return measure.name + (measure.lower_is_better ? ' (lower is better)' : ''); }

  // What the strings in specifications that begin with $ stand for.
  function values() {
    const [omega] = chosen('omega'), [measure = 'v0'] = chosen('measure'), [x = 'v0'] = chosen('x'), [y = 'v0'] = chosen('y');
    const plain = value => value.replace('v', 'plain');
    const combinations = chosen('combination');
    const width = section.clientWidth, columns = width > 1000 && combinations.length > 1 ? 2 : 1;
    const longest = Math.max(...data.methods.map(name => name.length));
    const xLower = measureAt(x).lower_is_better, yLower = measureAt(y).lower_is_better;
    // A name stands to the right of its point, that of the base to the left, where it would not be cut.
    const place = `scale('x', datum[${JSON.stringify(x)}]) / width`;
    const toLeft = `(datum.kind == 'base' ? ${place} > 0.1 : ${place} > 0.8)`;
    return {
      $models: data.models.map(model => ({...model})),  // Vega adds to them
      $methods: chosen('method'), $combinations: combinations,
      $experts: [...new Set(combinations.flatMap(name => name.split(' + ')))],
      $omegas: data.omegas.filter(value => omega === 'all' || omega === value),
      $measure: measure, $plain: plain(measure), $measureTitle: title(measureAt(measure)),
      $x: x, $y: y, $xPlain: plain(x), $yPlain: plain(y), $xTitle: title(measureAt(x)), $yTitle: title(measureAt(y)),
      // Down the better x, the front are those with a better y than all before.
      $xOrder: xLower ? 'ascending' : 'descending', $yOrder: yLower ? 'ascending' : 'descending',
      $frontBest: yLower ? 'min' : 'max',
      $isOnFront: `!isValid(datum.before) || datum[${JSON.stringify(y)}] ${yLower ? '<' : '>'} datum.before`,
      $frontSteps: xLower ? 'step-after' : 'step-before',
      $labelAlign: `${toLeft} ? 'right' : 'left'`, $labelShift: `${toLeft} ? -9 : 9`,
      $columns: columns, $width: Math.min(900, width - 90), $planeHeight: Math.min(520, Math.max(320, width * 0.5)),
      $gainWidth: Math.max(150, Math.floor((width - Math.min(320, 8 * longest) - 30) / columns) - 20),
      $curveWidth: Math.max(150, Math.floor(width / columns) - 75),
      $headerLimit: Math.floor(width / columns) - 80,
      $legendColumns: Math.max(1, Math.floor(Math.min(900, width) / (Math.min(240, 8 * longest) + 40))),
    };
  }

  function element(name, text, parent) {
    const made = document.createElement(name);
    made.textContent = text;
    parent.append(made);
    return made;
  }
  // Scores and config of the model of this name.
  function tooltip(name) {
    const model = byName.get(name), box = document.createElement('div');
    element('strong', name, box);
    const table = element('table', '', box);
    data.measures.forEach((measure, i) => {
      if (model[`v${i}`] === undefined) return;
      const row = element('tr', '', table), decimals = i === 0 ? 4 : 2;
      element('td', measure.name, row);
      element('td', model[`v${i}`].toFixed(decimals), row);
      if (model[`plain${i}`] !== undefined) element('td', `without AIM ${model[`plain${i}`].toFixed(decimals)}`, row);
    });
    const source = [...document.querySelectorAll('details[data-model]')].find(entry => entry.dataset.model === name);
    if (source) {
      const lines = source.querySelector('pre').textContent.trimEnd().split('\n'), shown = lines.slice(0, 20);
      element('pre', shown.join('\n') + (lines.length > shown.length ? '\n\u2026 (all of it: click)' : ''), box);
    }
    return box.innerHTML;
  }

  const plots = {};
  async function draw() {
    const filled = values();
    for (const [name, spec] of Object.entries(specs)) {
      const whole = JSON.parse(JSON.stringify(spec), (key, value) =>
        typeof value === 'string' && Object.hasOwn(filled, value) ? filled[value] : value);
      const options = {mode: 'vega-lite', renderer: 'svg', actions: false, tooltip: {formatTooltip: tooltip}};
      if (plots[name]) plots[name].finalize();
      plots[name] = await vegaEmbed(`#figure-${name}`, whole, options);
      plots[name].view.addEventListener('click', (event, item) => { if (item && item.tooltip) showConfig(item.tooltip); });
    }
    section.dataset.drawn = Number(section.dataset.drawn || 0) + 1;
  }

  section.addEventListener('change', () => { remember(); draw(); });
  section.addEventListener('submit', event => event.preventDefault());
  section.addEventListener('click', event => {
    const name = event.target.dataset.all;
    if (!name) return;
    const boxes = inputs(name), all = boxes.every(box => box.checked);
    for (const box of boxes) box.checked = !all;
    remember();
    draw();
  });
  addEventListener('hashchange', () => { choose(new URLSearchParams(location.hash.slice(1))); draw(); });
  let resizing;
  addEventListener('resize', () => { clearTimeout(resizing); resizing = setTimeout(draw, 200); });
  choose(new URLSearchParams(location.hash.slice(1)));
  draw();
}
