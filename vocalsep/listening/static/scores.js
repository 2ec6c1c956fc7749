"use strict";

/* The scores of a run: how they are distributed, and a table of songs that can be sorted.

   run: {rows: [{name, kind}], songs: [{name, seconds, heard, scores: [row][target][score]}], summary, targets, scores}. */

const PLOTTED_DB = 60; // scores beyond this come from rounding errors, and would squeeze the rest
const BOXED = 8; // with fewer songs, there is no box

class Scores {
  /* onopen: called with the index of a song. */
  constructor(run, onopen) {
    this.run = run;
    this.onopen = onopen;
    this.sorted = { column: "order", down: false };
    this.order = run.songs.map((_, index) => index);
    run.targets.forEach((name, index) => $("target").append(new Option(name, index)));
    Object.entries(run.scores).forEach(([, text], index) => $("score").append(new Option(text, index)));
    $("target").onchange = $("score").onchange = () => this.show();
    this.colours = colourRows(run.rows);
    this.show();
  }

  get(song, row) {
    return this.run.songs[song].scores[row]?.[$("target").value][$("score").value] ?? null;
  }

  show() {
    const values = this.run.rows.flatMap((_, row) => this.order.map((song) => this.get(song, row)));
    const shown = values.filter((value) => value !== null && Math.abs(value) < PLOTTED_DB);
    this.scale = makeScale(Math.min(...shown, 0), Math.max(...shown, 1));
    this.drawDistribution();
    this.buildHead();
    this.sort();
    this.buildFoot();
  }

  /* Mark the song that is open. */
  mark(song) {
    this.open = song;
    for (const row of $("table").tBodies[0].rows) row.setAttribute("aria-current", Number(row.dataset.song) === song);
  }

  // The plot

  drawDistribution() {
    const { rows, songs } = this.run;
    const medians = [];
    const hidden = [];
    const strips = rows.flatMap(({ name, kind }, row) => {
      const known = this.order.map((song) => ({ song, value: this.get(song, row) })).filter(({ value }) => value !== null);
      const drawn = known.filter(({ value }) => Math.abs(value) < PLOTTED_DB);
      const median = this.summarise(row).median;
      medians.push(`${name}: ${formatScore(median)}`);
      const strip = svg("svg", { class: `strip ${kind}` });
      for (const tick of this.scale.ticks) strip.append(svg("line", { class: "grid", x1: this.place(tick), x2: this.place(tick), y1: 0, y2: "100%" }));
      const sorted = drawn.map(({ value }) => value).sort((a, b) => a - b);
      if (sorted.length >= BOXED) {
        const [low, high] = [findQuantile(sorted, 0.25), findQuantile(sorted, 0.75)];
        strip.append(svg("rect", { class: "box", x: this.place(low), width: this.span(low, high), y: "22%", height: "56%", rx: 4 }));
      }
      for (const { song, value } of drawn) {
        const dot = svg("circle", { cx: this.place(value), cy: "50%", r: songs.length > 100 ? 2 : 4 });
        dot.append(svg("title", {}, `${songs[song].name}: ${formatScore(value)} dB`));
        dot.onclick = () => this.onopen(song);
        strip.append(dot);
      }
      if (median !== null && Math.abs(median) < PLOTTED_DB)
        strip.append(svg("line", { class: "median", x1: this.place(median), x2: this.place(median), y1: "12%", y2: "88%" }));
      strip.style.setProperty("--hue", `var(${this.colours[row]})`);
      if (known.length > drawn.length) hidden.push(`${known.length - drawn.length} of ${name}`);
      const text = formatScore(median);
      return [make("span", { className: "who", textContent: name, title: name, dir: "auto" }), strip, make("span", { className: "value", textContent: text })];
    });
    const axis = make("div", { className: "ticks" });
    for (const tick of this.scale.ticks) {
      const label = make("span", { textContent: formatNumber(tick, 0) });
      label.style.left = this.place(tick);
      axis.append(label);
    }
    $("distribution").replaceChildren(...strips, make("span"), axis, make("span"));
    $("hidden").textContent = hidden.length ? ` Not drawn, because they are beyond ${PLOTTED_DB} dB: ${hidden.join(", ")}.` : "";
    $("distribution").setAttribute("aria-label", `Distribution over ${songs.length} songs. Medians in dB: ${medians.join("; ")}`);
  }

  place(value) {
    return `${(2 + 96 * this.scale.place(value)).toFixed(2)}%`;
  }

  span(low, high) {
    return `${(96 * (this.scale.place(high) - this.scale.place(low))).toFixed(2)}%`;
  }

  summarise(row) {
    return this.run.summary[row][$("target").value][$("score").value];
  }

  // The table

  buildHead() {
    const { rows, targets, songs } = this.run;
    const target = targets[$("target").value];
    $("table-caption").textContent = `${$("score").selectedOptions[0].text}; ${target} of ${songs.length} ${songs.length === 1 ? "song" : "songs"}`;
    const groups = make("tr", { className: "groups" }, make("td", { colSpan: 3 }));
    for (const [kind, text] of [["floor", "Floor"], ["model", "Compared"], ["ceiling", "Ceiling"]]) {
      const colSpan = rows.filter((row) => row.kind === kind).length;
      if (colSpan) groups.append(make("th", { colSpan, scope: "colgroup", textContent: text }));
    }
    const head = make("tr", {}, this.makeHead("song", "Song"), this.makeHead("seconds", "Length"));
    head.append(make("th", { scope: "col", className: "range", textContent: "Floor to ceiling" }));
    rows.forEach(({ name }, row) => head.append(this.makeHead(row, name)));
    $("table").tHead.replaceChildren(groups, head);
  }

  makeHead(column, text) {
    const button = make("button", { onclick: () => this.sortBy(column) }, make("span", { textContent: text, dir: "auto" }));
    const cell = make("th", { scope: "col", className: typeof column === "number" ? "score" : column }, button);
    cell.dataset.column = column;
    if (typeof column === "number") button.style.setProperty("--hue", `var(${this.colours[column]})`);
    return cell;
  }

  /* Sort by a column: scores from the highest first, the rest from the lowest; a second time, the other way round. */
  sortBy(column) {
    const again = this.sorted.column === column;
    this.sorted = { column, down: again ? !this.sorted.down : typeof column === "number" };
    this.sort();
  }

  sort() {
    const { column, down } = this.sorted;
    const { songs } = this.run;
    const key = { order: (song) => song, song: (song) => songs[song].name, seconds: (song) => songs[song].seconds }[column] ?? ((song) => this.get(song, column));
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    this.order.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === null || b === null) return (a === null) - (b === null) || one - other; // songs without a score come last
      return (down ? compare(b, a) : compare(a, b)) || one - other;
    });
    for (const cell of $("table").tHead.rows[1].cells) {
      const here = cell.dataset.column === String(column);
      if (here) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    $("table").tBodies[0].replaceChildren(...this.order.map((song) => this.buildRow(song)));
    this.mark(this.open);
  }

  buildRow(song) {
    const { name, seconds, heard } = this.run.songs[song];
    const open = heard ? make("button", { onclick: () => this.onopen(song) }) : make("span");
    open.append(make("span", { textContent: name, dir: "auto" }));
    const row = make("tr", { className: heard ? "heard" : "" }, make("th", { scope: "row" }, open));
    row.dataset.song = song;
    row.append(make("td", { textContent: formatTime(seconds) }), make("td", { className: "range" }, this.drawRange(song)));
    this.run.rows.forEach((_, column) => row.append(make("td", { textContent: formatScore(this.get(song, column)) })));
    return row;
  }

  /* Draw the models of a song as dots between floor and ceiling. */
  drawRange(song) {
    const strip = svg("svg", { class: "range", "aria-hidden": true });
    const bounds = { floor: [], ceiling: [] };
    const dots = [];
    this.run.rows.forEach(({ kind }, row) => {
      const value = this.get(song, row);
      if (value === null || Math.abs(value) >= PLOTTED_DB) return;
      if (kind !== "model") return bounds[kind].push(value);
      const dot = svg("circle", { cx: this.place(value), cy: "50%", r: 4 });
      dot.style.setProperty("--hue", `var(${this.colours[row]})`);
      dots.push(dot);
    });
    if (bounds.floor.length && bounds.ceiling.length) {
      const [low, high] = [Math.min(...bounds.floor), Math.max(...bounds.ceiling)];
      strip.append(svg("line", { x1: this.place(low), x2: this.place(high), y1: "50%", y2: "50%" }));
      for (const end of [low, high]) strip.append(svg("line", { x1: this.place(end), x2: this.place(end), y1: "30%", y2: "70%" }));
    }
    strip.append(...dots);
    return strip;
  }

  buildFoot() {
    const line = (text, key) => make("tr", {}, make("th", { scope: "row", textContent: text }), make("td"), make("td", { className: "range" }),
      ...this.run.rows.map((_, row) => make("td", { textContent: formatScore(this.summarise(row)[key]) })));
    $("table").tFoot.replaceChildren(line("Median", "median"), line("Mean", "mean"));
  }
}

/* Return the names of the colours of rows: grey for bounds, and a hue for each model. */
function colourRows(rows) {
  let model = 0;
  return rows.map(({ kind }) => (kind === "model" ? `--stem-${model++ % 6}` : "--muted"));
}

function makeScale(low, high) {
  const step = [1, 2, 5, 10, 20, 50].find((each) => (high - low) / each <= 8) ?? 100;
  const [from, to] = [Math.floor(low / step) * step, Math.ceil(high / step) * step];
  const ticks = Array.from({ length: Math.round((to - from) / step) + 1 }, (_, number) => from + number * step);
  return { ticks, from, to, place: (value) => (value - from) / (to - from) };
}

function formatNumber(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

function formatScore(value) {
  return value === null || value === undefined ? "–" : formatNumber(value, 2);
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
