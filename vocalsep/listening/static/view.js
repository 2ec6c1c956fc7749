"use strict";

/* Draws the stems of one song: an overview of all of it, and a lane per stem that can be zoomed.

   The pictures come from vocalsep: each piece of a stem has one, and so has the whole song, in fewer columns. */

const SHOWN_DB = 66; // below the loudest level
const CACHED_PICTURES = 300;
const LONGEST_FINE_SECONDS = 400; // of which the pictures of all pieces are shown
const SHORTEST_SECONDS = 0.5; // of the lanes

class View {
  /* elements: {ruler, lanes: [canvas per stem]}, and overview, if there is one; a song may name the colours of its
     stems, as they are called in the style sheet. onchange: called after each change of the visible range. */
  constructor(song, load, elements, onchange) {
    this.song = song;
    this.grid = song.grid;
    this.load = load;
    this.elements = elements;
    this.onchange = onchange;
    this.seconds = song.grid.samples / song.grid.rate;
    this.origin = 0; // what the ruler adds, in seconds
    this.from = 0; // the visible range, in seconds
    this.to = this.seconds;
    this.overviews = [];
    this.pictures = new Map();
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(elements.overview ?? elements.ruler);
    elements.lanes.forEach((canvas) => this.observer.observe(canvas));
  }

  async open() {
    const { stems, grid } = this.song;
    const names = stems.map((stem) => `${stem}/overview.view`);
    this.overviews = await Promise.all(names.map((name) => this.read(name, 1)));
    let level = 1;
    let peak = 1e-3;
    for (const { levels, peaks } of this.overviews) {
      level = levels.reduce((highest, value) => Math.max(highest, value), level);
      peak = peaks.reduce((highest, value) => Math.max(highest, value), peak);
    }
    this.scale = 1 / peak;
    this.step = (grid.ceilingDb - grid.floorDb) / (grid.levels - 1);
    this.loudest = level;
    this.recolour();
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    this.closed = true;
  }

  /* Show a range, in seconds, as far as the song goes. */
  show(from, to) {
    const length = Math.min(Math.max(to - from, SHORTEST_SECONDS), this.seconds);
    this.from = Math.min(Math.max(from, 0), this.seconds - length);
    this.to = this.from + length;
    this.redraw();
  }

  zoom(factor, around) {
    this.show(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }

  /* Move the range so that it holds a moment. */
  reveal(seconds) {
    const length = this.to - this.from;
    if (seconds < this.from || seconds >= this.to) this.show(seconds - length * 0.1, seconds + length * 0.9);
  }

  /* Return where a moment lies, as a share of the width. */
  place(seconds) {
    return (seconds - this.from) / (this.to - this.from);
  }

  recolour() {
    this.paper = readColour("--lane");
    const ink = readColour("--bright");
    this.muted = `rgb(${readColour("--muted").join(" ")})`;
    const names = this.song.colours ?? this.song.stems.map((_, index) => `--stem-${index % 6}`);
    this.colours = names.map(readColour);
    this.palettes = this.colours.map((hue) => makePalette(this.paper, hue, ink));
    this.pictures.forEach((picture) => (picture.image = null));
    this.overviews.forEach((picture) => (picture.image = null));
    this.redraw();
  }

  redraw() {
    if (this.frame || this.closed || !this.overviews.length) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
      this.onchange();
    });
  }

  draw() {
    const { overview, ruler, lanes } = this.elements;
    if (overview) this.drawOverview(overview);
    lanes.forEach((canvas, index) => this.drawLane(canvas, index));
    this.drawRuler(ruler);
  }

  drawOverview(canvas) {
    const context = fit(canvas);
    if (!context) return;
    const { clientWidth: width, clientHeight: height } = canvas;
    // The quieter stems last, so that the louder ones do not hide them.
    for (let index = this.overviews.length - 1; index >= 0; index--)
      this.drawWaveform(context, index, 0, this.seconds, width, height, false);
  }

  drawLane(canvas, index) {
    const context = fit(canvas);
    if (!context) return;
    const { clientWidth: width, clientHeight: height } = canvas;
    const top = Math.round(height * 0.36);
    const visible = this.to - this.from;
    const fine = visible < LONGEST_FINE_SECONDS && visible / width < this.grid.overviewHop / this.grid.rate / 1.5;
    this.drawWaveform(context, index, this.from, this.to, width, top, fine);
    this.drawSpectrogram(context, index, width, top, height - top, fine);
    this.drawFrequencies(context, top, height - top);
  }

  drawSpectrogram(context, index, width, top, height, fine) {
    const { hop, rate, piece, pieces, overviewHop } = this.grid;
    const paint = (picture, start, hopSeconds) => {
      const x = this.place(start) * width;
      const wide = ((picture.columns * hopSeconds) / (this.to - this.from)) * width;
      picture.image ??= this.render(picture, index);
      context.drawImage(picture.image, x, top, wide, height);
    };
    paint(this.overviews[index], 0, overviewHop / rate);
    if (!fine) return;
    const last = Math.min(Math.floor((this.to * rate) / piece), pieces - 1);
    for (let number = Math.floor((this.from * rate) / piece); number <= last; number++) {
      const picture = this.fetch(index, number);
      if (picture) paint(picture, (number * piece) / rate, hop / rate);
    }
  }

  /* Turn levels into an image: one pixel per level, the lowest row at the bottom. */
  render({ levels, columns }, index) {
    const { rows } = this.grid;
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const palette = this.palettes[index];
    const shift = SHOWN_DB / this.step - this.loudest;
    const factor = ((palette.length - 1) / SHOWN_DB) * this.step;
    for (let row = 0; row < rows; row++) {
      const line = (rows - 1 - row) * columns;
      for (let column = 0; column < columns; column++) {
        const shade = (levels[row * columns + column] + shift) * factor;
        pixels[line + column] = palette[shade > 0 ? Math.round(shade) : 0];
      }
    }
    const canvas = new OffscreenCanvas(columns, rows);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /* Draw peaks, and inside them the root mean square. */
  drawWaveform(context, index, from, to, width, height, fine) {
    const { rate, hop, peaks, piece, pieces, overviewHop } = this.grid;
    const overview = this.overviews[index];
    const perSecond = fine ? (rate * peaks) / hop : rate / overviewHop;
    const perPiece = fine ? (piece / hop) * peaks : Infinity;
    const highs = new Float32Array(width + 1);
    const bodies = new Float32Array(width + 1);
    let number = 0; // of the piece whose picture is the current one
    let picture = fine ? null : overview;
    for (let x = 0; x <= width; x++) {
      const start = Math.floor((from + ((to - from) * x) / width) * perSecond);
      const stop = Math.max(start + 1, (from + ((to - from) * (x + 1)) / width) * perSecond);
      let count = 0;
      for (let point = start; point < stop; point++, count++) {
        if (fine && (!picture || point >= (number + 1) * perPiece)) {
          number = Math.floor(point / perPiece);
          picture = number < pieces && this.fetch(index, number);
        }
        const place = picture ? (fine ? point - number * perPiece : point) : Math.floor((point * hop) / peaks / overviewHop);
        const { peaks: points, bodies: roots } = picture || overview;
        if (points[place] > highs[x]) highs[x] = points[place];
        bodies[x] += roots[place] || 0;
      }
      bodies[x] /= count;
    }
    const middle = height / 2;
    for (const [values, alpha] of [[highs, 0.4], [bodies, 1]]) {
      context.fillStyle = `rgb(${this.colours[index].join(" ")} / ${alpha})`;
      context.beginPath();
      for (let x = 0; x <= width; x++) context.lineTo(x, middle - Math.max(values[x] * this.scale * middle, 0.4));
      for (let x = width; x >= 0; x--) context.lineTo(x, middle + Math.max(values[x] * this.scale * middle, 0.4));
      context.fill();
    }
  }

  drawFrequencies(context, top, height) {
    const { lowestHz, highestHz } = this.grid;
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const [hz, text] of [[100, "100 Hz"], [1000, "1 kHz"], [8000, "8 kHz"]]) {
      const y = top + height * (1 - Math.log(hz / lowestHz) / Math.log(highestHz / lowestHz));
      if (hz >= highestHz) continue;
      context.fillStyle = `rgb(${this.paper.join(" ")} / 0.75)`;
      context.fillRect(0, y - 7, context.measureText(text).width + 10, 14);
      context.fillStyle = this.muted;
      context.fillText(text, 5, y);
    }
  }

  drawRuler(canvas) {
    const context = fit(canvas);
    if (!context) return;
    const { clientWidth: width, clientHeight: height } = canvas;
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
    const step = steps.find((value) => (value / (this.to - this.from)) * width >= 64) ?? 1200;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = context.strokeStyle = this.muted;
    context.textBaseline = "top";
    for (let number = Math.ceil(this.from / step); number * step <= this.to; number++) {
      const x = Math.round(this.place(number * step) * width) + 0.5;
      context.globalAlpha = 0.6;
      context.fillRect(x - 0.5, height - 5, 1, 5);
      context.globalAlpha = 1;
      const text = formatTime(this.origin + number * step, step < 1 ? 1 : 0);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(Math.max(x - half, 0), width - 2 * half), 1);
    }
  }

  /* Return the picture of a piece, or nothing while it loads. */
  fetch(index, number) {
    const name = `${this.song.stems[index]}/${number}.view`;
    const found = this.pictures.get(name);
    if (!found) {
      this.pictures.set(name, {}); // what cannot be read is left out, and not tried again
      const keep = (picture) => {
        this.pictures.set(name, picture);
        if (this.pictures.size > CACHED_PICTURES) this.pictures.delete(this.pictures.keys().next().value);
        this.redraw();
      };
      this.read(name, this.grid.peaks).then(keep, () => null);
    }
    return found?.levels ? found : null;
  }

  /* Read a picture: levels row by row, then peaks, then root mean squares. */
  async read(name, perColumn) {
    const stream = new Blob([await this.load(name)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const { rows } = this.grid;
    const columns = bytes.length / (rows + 2 * perColumn);
    const levels = bytes.subarray(0, rows * columns);
    for (let place = 0; place < levels.length; place++)
      if (place % columns) levels[place] += levels[place - 1];
    const amplitudes = Float32Array.from(bytes.subarray(rows * columns), (value) => (value / 255) ** 2);
    const points = columns * perColumn;
    return { levels, columns, peaks: amplitudes.subarray(0, points), bodies: amplitudes.subarray(points) };
  }
}

/* Give a canvas one pixel per pixel of the screen, and return its cleared context; nothing if it is hidden. */
function fit(canvas) {
  const { clientWidth, clientHeight } = canvas;
  if (!clientWidth || !clientHeight) return null;
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(clientWidth * scale);
  canvas.height = Math.round(clientHeight * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

/* Return red, green and blue of a colour of the style sheet, as the theme resolves it. */
function readColour(name) {
  const { style } = document.body;
  style.setProperty("outline-color", `var(${name})`);
  const colour = getComputedStyle(document.body).outlineColor;
  style.removeProperty("outline-color");
  return colour.match(/[\d.]+/g).slice(0, 3).map(Number);
}

/* Return 256 colours from paper over the hue to ink, as pixels. */
function makePalette(paper, hue, ink) {
  const stops = [[0, paper], [0.3, mix(paper, hue, 0.4)], [0.65, hue], [1, mix(hue, ink, 0.85)]];
  return Uint32Array.from({ length: 256 }, (_, place) => {
    const share = (place / 255) ** 1.7;
    const next = Math.max(1, stops.findIndex(([at]) => at >= share));
    const [[low, from], [high, to]] = [stops[next - 1], stops[next]];
    const [red, green, blue] = mix(from, to, (share - low) / (high - low));
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
}

function mix(from, to, share) {
  return from.map((value, place) => Math.round(value + (to[place] - value) * share));
}

function formatTime(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
