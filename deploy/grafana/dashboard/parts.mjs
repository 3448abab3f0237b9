// What a dashboard is made of. Each function gives plain Grafana JSON, without a place: rows give places.

/** Where the runbooks are. The same as in the alerts. */
const RUNBOOKS = "https://github.com/fanway/fanway/blob/main/deploy/docs/runbooks.md";

/** What every query is limited to. */
const SELECTED = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"';

const DATASOURCE = { type: "prometheus", uid: "${datasource}" };

/** A metric of the selected nodes: `of("fanway_connections", 'transport="sse"')`. */
export const of = (metric, more) => `${metric}{${SELECTED}${more ? `, ${more}` : ""}}`;

/** A counter's growth per second. */
export const rate = (metric, more) => `rate(${of(metric, more)}[$__rate_interval])`;

/** A quantile of a histogram, per `by`. */
export const quantile = (metric, { q = "$quantile", by = "", more } = {}) =>
  `histogram_quantile(${q}, sum by (${by ? `${by}, ` : ""}le) (${rate(`${metric}_bucket`, more)}))`;

/** Only of nodes that are not on their way out. */
export const staying = (expr) => `(${expr} unless on (namespace, job, instance) ${of("fanway_draining")} == 1)`;

/**
 * One query. Options: `legend` (with `{{label}}`), `instant` (only the newest value), `heatmap` (buckets of a histogram).
 */
export const query = (expr, { legend = "", instant = false, heatmap = false } = {}) => ({
  datasource: DATASOURCE,
  editorMode: "code",
  expr,
  format: heatmap ? "heatmap" : "time_series",
  instant,
  range: !instant,
  legendFormat: legend || "__auto",
});

const letters = (targets) => targets.map((target, at) => ({ refId: String.fromCharCode(65 + at), ...target }));

function panel(type, { title, description, queries, alerts = [], width, height }, fieldConfig, options) {
  return {
    type,
    title,
    description,
    datasource: DATASOURCE,
    targets: letters(queries),
    links: alerts.map((alert) => ({ title: `Runbook: ${alert}`, url: `${RUNBOOKS}#${alert.toLowerCase()}`, targetBlank: true })),
    fieldConfig: { defaults: {}, overrides: [], ...fieldConfig },
    options,
    gridPos: { w: width, h: height },
  };
}

/** Colours by value: `[[null, "green"], [0.8, "orange"]]`. */
const steps = (levels) => ({ mode: "absolute", steps: levels.map(([value, color]) => ({ value, color })) });

/** Words and colours for values: `{ 0: ["down", "red"] }`. */
const words = (map) => [
  { type: "value", options: Object.fromEntries(Object.entries(map).map(([value, [text, color]], index) => [value, { text, color, index }])) },
];

/** One number, with its history as a shadow unless `bare`. */
export function stat({ unit, decimals, levels = [[null, "blue"]], mappings, bare = false, none, ...rest }) {
  const defaults = {
    unit,
    ...(decimals === undefined ? {} : { decimals }),
    ...(none === undefined ? {} : { noValue: none }),
    color: { mode: "thresholds" },
    thresholds: steps(levels),
    mappings: mappings ? words(mappings) : [],
  };
  return panel("stat", { width: 4, height: 4, ...rest }, { defaults }, {
    colorMode: "value",
    graphMode: bare ? "none" : "area",
    justifyMode: "auto",
    orientation: "auto",
    reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
    textMode: "auto",
    wideLayout: true,
  });
}

/** Lines over time. `stack` piles them up; `below` is a pattern of legends that are drawn downwards; `limit` draws a line. */
export function lines({ unit, stack = false, below, min = below ? undefined : 0, max, limit, ...rest }) {
  const defaults = {
    unit,
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    color: { mode: "palette-classic" },
    custom: {
      drawStyle: "line",
      lineInterpolation: "linear",
      lineWidth: 1,
      fillOpacity: stack ? 40 : 8,
      gradientMode: "none",
      showPoints: "never",
      spanNulls: false,
      stacking: { mode: stack ? "normal" : "none", group: "A" },
      axisPlacement: "auto",
      thresholdsStyle: { mode: limit === undefined ? "off" : "line" },
    },
    mappings: [],
    thresholds: steps(limit === undefined ? [[null, "green"]] : [[null, "green"], [limit, "red"]]),
  };
  const overrides = below
    ? [{ matcher: { id: "byRegexp", options: below }, properties: [{ id: "custom.transform", value: "negative-Y" }] }]
    : [];
  return panel("timeseries", { width: 8, height: 8, ...rest }, { defaults, overrides }, {
    legend: { displayMode: "list", placement: "bottom", showLegend: true, calcs: [] },
    tooltip: { mode: "multi", sort: "desc" },
  });
}

/** How a histogram's samples are spread, over time. */
export function heatmap({ metric, more, unit, ...rest }) {
  const expr = `sum by (le) (increase(${of(`${metric}_bucket`, more)}[$__rate_interval]))`;
  const queries = [query(expr, { legend: "{{le}}", heatmap: true })];
  const defaults = { unit: "short", custom: { hideFrom: { legend: false, tooltip: false, viz: false }, scaleDistribution: { type: "linear" } } };
  return panel("heatmap", { width: 8, height: 8, queries, ...rest }, { defaults }, {
    calculate: false,
    cellGap: 1,
    color: { mode: "scheme", scheme: "Oranges", steps: 64, exponent: 0.5, fill: "dark-orange", scale: "exponential", reverse: false },
    exemplars: { color: "rgba(255,0,255,0.7)" },
    filterValues: { le: 1e-9 },
    legend: { show: true },
    rowsFrame: { layout: "auto" },
    tooltip: { mode: "single", yHistogram: false },
    yAxis: { axisPlacement: "left", reverse: false, unit },
  });
}

/** What state each of several things was in, over time. `states` is value to word and colour. */
export function states({ states: map, none, ...rest }) {
  const defaults = {
    unit: "short",
    ...(none === undefined ? {} : { noValue: none }),
    color: { mode: "thresholds" },
    custom: { fillOpacity: 70, lineWidth: 0, spanNulls: false },
    mappings: words(map),
    thresholds: steps([[null, "text"]]),
  };
  return panel("state-timeline", { width: 8, height: 8, ...rest }, { defaults }, {
    alignValue: "left",
    legend: { displayMode: "list", placement: "bottom", showLegend: false },
    mergeValues: true,
    rowHeight: 0.8,
    showValue: "auto",
    tooltip: { mode: "single", sort: "none" },
  });
}

/** A variable whose values are those of a label. */
export const labelled = (name, label, metric, more = {}) => ({
  type: "query",
  name,
  label: name,
  datasource: DATASOURCE,
  definition: `label_values(${metric}, ${label})`,
  query: { qryType: 1, query: `label_values(${metric}, ${label})`, refId: "PrometheusVariableQueryEditor-VariableQuery" },
  includeAll: true,
  multi: true,
  refresh: 2,
  sort: 1,
  current: { selected: true, text: ["All"], value: ["$__all"] },
  options: [],
  hide: 0,
  skipUrlSync: false,
  ...more,
});

/** Marks on all panels where a query has a value. `atValue`: the value is the time of the mark, in milliseconds. */
export const marks = (name, color, expr, { title, atValue = false }) => ({
  name,
  datasource: DATASOURCE,
  enable: true,
  hide: false,
  iconColor: color,
  expr,
  step: "30s",
  titleFormat: title,
  textFormat: "",
  tagKeys: "instance",
  useValueForTime: atValue,
});

const WIDTH = 24;

/** Puts rows of panels below each other. All but the first are collapsed: what is not seen is not asked. */
export function layout(rows) {
  let y = 0;
  let id = 0;
  const all = [];
  rows.forEach(({ title, panels }, at) => {
    const collapsed = at > 0;
    const row = { type: "row", id: ++id, title, collapsed, gridPos: { x: 0, y: y++, w: WIDTH, h: 1 }, panels: [] };
    const placed = [];
    let x = 0;
    let tallest = 0;
    for (const one of panels) {
      const { w, h } = one.gridPos;
      if (x + w > WIDTH) [x, y, tallest] = [0, y + tallest, 0];
      placed.push({ id: ++id, ...one, gridPos: { x, y, w, h } });
      x += w;
      tallest = Math.max(tallest, h);
    }
    if (!collapsed) y += tallest;
    else y = row.gridPos.y + 1;
    if (collapsed) row.panels = placed;
    all.push(row, ...(collapsed ? [] : placed));
  });
  return all;
}

/** A link of the dashboard's own. */
export const runbooks = { type: "link", title: "Runbooks", url: RUNBOOKS, icon: "doc", targetBlank: true, asDropdown: false, includeVars: false, keepTime: false, tags: [], tooltip: "What each alert means and what to do" };
