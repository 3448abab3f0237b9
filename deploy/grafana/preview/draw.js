// Draws a row of the dashboard from the answers to its queries. It knows the few kinds of panels that the dashboard has and is
// no replacement for Grafana: it is there so that pictures for the documentation can be made anywhere, from real data.
//
// window.draw({ title, start, end, panels }), a panel being { panel, series: [{ legend, points: [[seconds, number]] }] }.
(() => {
  const COLORS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d", "#e0b400", "#c0d8ff", "#ffa6b0", "#96d98d"];
  const NAMED = { green: "#73bf69", red: "#f2495c", orange: "#ff9830", blue: "#5794f2", text: "#ccccdc", purple: "#b877d9" };
  const ROW = 26;
  const GAP = 6;
  const NS = "http://www.w3.org/2000/svg";

  function make(tag, attributes = {}, parent) {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    parent?.append(node);
    return node;
  }

  function element(tag, text, parent, style = {}) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    Object.assign(node.style, style);
    parent?.append(node);
    return node;
  }

  const short = (value, digits = 3) => String(Number(value.toPrecision(digits)));

  function scaled(value, base, units) {
    let at = 0;
    while (Math.abs(value) >= base && at < units.length - 1) [value, at] = [value / base, at + 1];
    return short(value) + units[at];
  }

  function format(value, unit) {
    const size = Math.abs(value);
    switch (unit) {
      case "s":
        if (size === 0) return "0 s";
        if (size < 0.001) return `${short(value * 1e6)} µs`;
        if (size < 1) return `${short(value * 1e3)} ms`;
        if (size < 60) return `${short(value)} s`;
        return size < 3600 ? `${short(value / 60)} min` : size < 86400 ? `${short(value / 3600)} h` : `${short(value / 86400)} d`;
      case "bytes":
        return scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]);
      case "percentunit":
        return `${short(value * 100)} %`;
      case "cps":
      case "ops":
      case "reqps":
        return `${scaled(value, 1000, ["", "k", "M"])}/s`;
      default:
        return scaled(value, 1000, ["", "k", "M"]);
    }
  }

  function colorOf(value, { steps }) {
    const passed = steps.filter((step) => step.value === null || value >= step.value);
    return NAMED[passed.at(-1).color];
  }

  const mapped = (value, defaults) => defaults.mappings?.[0]?.options[String(value)];

  function drawStat(box, { panel, series }, when, width, height) {
    const { defaults } = panel.fieldConfig;
    if (panel.options.graphMode === "area" && series.length === 1) drawShadow(box, series[0].points, defaults, when, width, height);
    const row = element("div", undefined, box);
    row.className = "big";
    if (series.length === 0) element("div", defaults.noValue ?? "no data", row, { fontSize: "16px", color: "#9a9ba5" });
    for (const { legend, points } of series) {
      const value = points.at(-1)[1];
      const word = mapped(value, defaults);
      const cell = element("div", undefined, row, { color: word ? NAMED[word.color] : colorOf(value, defaults.thresholds) });
      if (series.length > 1) element("small", legend, cell);
      cell.append(word?.text ?? format(value, defaults.unit));
    }
  }

  /** The history behind a number. */
  function drawShadow(box, points, defaults, { start, end }, width, height) {
    const svg = make("svg", { width, height, style: "position:absolute;left:8px;bottom:6px" });
    box.append(svg);
    const most = Math.max(...points.map(([, value]) => value), 1e-9);
    const at = ([time, value]) => `${(((time - start) / (end - start)) * width).toFixed(1)},${(height - (value / most) * height * 0.6).toFixed(1)}`;
    const edges = [`${(((points[0][0] - start) / (end - start)) * width).toFixed(1)},${height}`, `${width},${height}`];
    make("polygon", { points: [edges[0], ...points.map(at), edges[1]].join(" "), fill: colorOf(points.at(-1)[1], defaults.thresholds), opacity: 0.15 }, svg);
  }

  /** Nice ends and steps of an axis. */
  function ticks(low, high, unit, count = 4) {
    const raw = (high - low || 1) / count;
    const step =
      unit === "bytes"
        ? 2 ** Math.ceil(Math.log2(raw))
        : [1, 2, 2.5, 5, 10].map((factor) => factor * 10 ** Math.floor(Math.log10(raw))).find((candidate) => candidate >= raw);
    const marks = [];
    for (let at = Math.floor(low / step); at * step <= high + step * 0.999; at++) marks.push(at * step);
    return marks;
  }

  function clock(seconds) {
    const date = new Date(seconds * 1000);
    return [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
  }

  /** The frame of everything that runs over time: gives the drawing and how to place a moment. */
  function frame(box, { start, end }, left, height, width) {
    const svg = make("svg", { width, height }, undefined);
    box.append(svg);
    const bottom = height - 16;
    const x = (time) => left + ((time - start) / (end - start)) * (width - left - 6);
    for (let at = 0; at <= 4; at++) {
      const time = start + ((end - start) * at) / 4;
      const anchor = at === 0 ? "start" : at === 4 ? "end" : "middle";
      make("text", { x: x(time), y: height - 4, "text-anchor": anchor }, svg).textContent = clock(time);
    }
    return { svg, x, bottom };
  }

  function drawLines(box, { panel, series }, when, width, height) {
    const { defaults, overrides } = panel.fieldConfig;
    const below = overrides[0] && new RegExp(overrides[0].matcher.options);
    const stacked = defaults.custom.stacking.mode === "normal";
    const signed = series.map(({ legend, points }) => ({
      legend,
      points: points.map(([time, value]) => [time, below?.test(legend) ? -value : value]),
    }));
    const base = new Map();
    const shapes = signed.map(({ legend, points }) => {
      const shape = points.map(([time, value]) => {
        const from = stacked ? (base.get(time) ?? 0) : 0;
        if (stacked) base.set(time, from + value);
        return [time, from, from + value];
      });
      return { legend, shape };
    });
    const limit = defaults.custom.thresholdsStyle.mode === "line" ? defaults.thresholds.steps.at(-1).value : undefined;
    const values = shapes.flatMap(({ shape }) => shape.map((point) => point[2]));
    let low = Math.min(defaults.min ?? Infinity, ...values, below ? 0 : Infinity);
    let high = Math.max(defaults.max ?? -Infinity, ...values);
    if (limit !== undefined && limit < high * 4) high = Math.max(high, limit * 1.05);
    if (!Number.isFinite(low)) [low, high] = [0, 1];
    if (high === low) high = low + (low === 0 ? 1 : Math.abs(low) * 0.2);
    const marks = ticks(low, high, defaults.unit);
    [low, high] = [Math.min(low, marks[0]), Math.max(high, marks.at(-1))];
    const { svg, x, bottom } = frame(box, when, 58, height - 30, width);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 8);
    for (const mark of marks) {
      make("line", { x1: 58, x2: width - 6, y1: y(mark), y2: y(mark), stroke: "#25272e" }, svg);
      make("text", { x: 52, y: y(mark) + 3, "text-anchor": "end" }, svg).textContent = format(below ? Math.abs(mark) : mark, defaults.unit);
    }
    if (limit !== undefined && limit <= high) make("line", { x1: 58, x2: width - 6, y1: y(limit), y2: y(limit), stroke: NAMED.red, "stroke-dasharray": "4 3" }, svg);
    const legend = element("div", undefined, box);
    legend.className = "legend";
    shapes.forEach(({ legend: name, shape }, at) => {
      const color = COLORS[at % COLORS.length];
      // A pause in the samples is a pause in the line.
      const runs = [];
      for (const point of shape) {
        const run = runs.at(-1);
        if (run && point[0] - run.at(-1)[0] <= when.step * 1.5) run.push(point);
        else runs.push([point]);
      }
      for (const run of runs) {
        const top = run.map(([time, , value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
        const under = run.map(([time, from]) => `${x(time).toFixed(1)},${y(from).toFixed(1)}`).reverse();
        make("polygon", { points: [...top, ...under].join(" "), fill: color, opacity: stacked ? 0.4 : 0.08 }, svg);
        make("polyline", { points: top.join(" "), fill: "none", stroke: color, "stroke-width": 1.3 }, svg);
      }
      const entry = element("span", undefined, legend);
      element("i", undefined, entry, { background: color });
      entry.append(name);
    });
  }

  function drawStates(box, { panel, series }, when, width, height) {
    const left = 128;
    const { svg, x, bottom } = frame(box, when, left, height, width);
    const tall = Math.min(34, (bottom - 6) / series.length);
    series.forEach(({ legend, points }, at) => {
      make("text", { x: left - 6, y: 6 + at * tall + tall / 2 + 3, "text-anchor": "end" }, svg).textContent = legend;
      const runs = [];
      for (const [time, value] of points) {
        const run = runs.at(-1);
        if (run && run.value === value && time - run.to <= when.step * 1.5) run.to = time;
        else runs.push({ value, from: time, to: time });
      }
      for (const { value, from, to } of runs) {
        const word = mapped(value, panel.fieldConfig.defaults) ?? { text: String(value), color: "text" };
        const wide = Math.max(2, x(to + when.step) - x(from));
        make("rect", { x: x(from), y: 8 + at * tall, width: Math.min(wide, width - 6 - x(from)), height: tall - 4, fill: NAMED[word.color], opacity: 0.7 }, svg);
        if (wide > 60) make("text", { x: x(from) + 5, y: 6 + at * tall + tall / 2 + 3, style: "fill:#111217;font-weight:600" }, svg).textContent = word.text;
      }
    });
  }

  function drawHeatmap(box, { panel, series }, when, width, height) {
    const bounds = series.map(({ legend }) => (legend === "+Inf" ? Infinity : Number(legend)));
    const order = bounds.map((_, at) => at).sort((one, two) => bounds[one] - bounds[two]);
    // Buckets are cumulative: each less the one below it.
    const below = new Map();
    const cells = order.map((at, row) => ({
      row,
      bound: bounds[at],
      counts: series[at].points.map(([time, value]) => {
        const count = Math.max(0, value - (below.get(time) ?? 0));
        below.set(time, value);
        return [time, count];
      }),
    }));
    const most = Math.max(...cells.flatMap(({ counts }) => counts.map(([, count]) => count)), 1e-9);
    const { svg, x, bottom } = frame(box, when, 58, height, width);
    const tall = (bottom - 6) / cells.length;
    for (const { row, bound, counts } of cells) {
      const top = bottom - (row + 1) * tall;
      make("text", { x: 52, y: top + tall / 2 + 3, "text-anchor": "end" }, svg).textContent = bound === Infinity ? "more" : format(bound, panel.options.yAxis.unit);
      for (const [time, count] of counts) {
        if (count < most * 1e-4) continue;
        const wide = Math.max(1, x(time + when.step) - x(time) - 0.5);
        make("rect", { x: x(time), y: top + 0.5, width: wide, height: tall - 1, fill: "#ff9830", opacity: 0.12 + 0.88 * Math.sqrt(count / most) }, svg);
      }
    }
  }

  const DRAWERS = { stat: drawStat, timeseries: drawLines, "state-timeline": drawStates, heatmap: drawHeatmap };

  window.draw = ({ title, start, end, step, panels }) => {
    document.querySelector("h1").textContent = title;
    const main = document.querySelector("main");
    main.replaceChildren();
    const first = Math.min(...panels.map(({ panel }) => panel.gridPos.y));
    const lanes = panels.map((one) => {
      const { x, y, w, h } = one.panel.gridPos;
      const box = element("section", undefined, main, { gridColumn: `${x + 1} / span ${w}`, gridRow: `${y - first + 1} / span ${h}` });
      element("h2", one.panel.title, box);
      return { box, one, height: h * (ROW + GAP) - GAP - 32 };
    });
    for (const { box, one, height } of lanes) {
      const width = box.clientWidth - 16;
      if (one.series.length === 0 && one.panel.type !== "stat") {
        element("div", one.panel.fieldConfig.defaults.noValue ?? "no data", box).className = "none";
      } else {
        DRAWERS[one.panel.type](box, one, { start, end, step }, width, height);
      }
    }
  };
})();
