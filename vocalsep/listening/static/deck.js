"use strict";

/* Plays the passages of one song: mixture, reference, estimates and their errors, all on one clock.

   A bundle holds the passages one after the other, a piece each. The sources are its stems; all of them always play, and
   only one is heard. */

const CURVE_SECONDS = 900; // of the song with a label per minute at most
const KINDS = { worst: "Worst", median: "Median", best: "Best", loudest: "Loudest", whole: "Whole song" };

/* Read the song.json of a song. */
async function readSong(index) {
  return JSON.parse(new TextDecoder().decode(await loadEmbedded(index, "song.json")));
}

/* Return where a passage lies in the bundle, in seconds. */
function findPassage(song, index) {
  const { piece, rate, samples } = song.grid;
  return { from: (index * piece) / rate, to: Math.min((index + 1) * piece, samples) / rate };
}

/* Let one source be heard; gain in dB. */
function hearSource(engine, chosen, gain) {
  engine.stems.forEach((_, index) => engine.setVolume(index, index === chosen ? 10 ** (gain / 20) : 0));
}

class Deck {
  /* getContext: () => the page's AudioContext; onchange: called when a song is open; onpause: when the sound stops. */
  constructor(run, getContext, onchange, onpause) {
    Object.assign(this, { run, getContext, onchange, onpause });
    this.colours = colourRows(run.rows);
    this.stage = document.querySelector(".stage");
    this.ruler = this.stage.querySelector(".ruler");
    this.matched = true;
    this.passage = 0;
    this.bindTrack(this.ruler);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.view?.recolour());
  }

  async open(index) {
    this.opening = index;
    const song = await readSong(index);
    if (this.opening !== index) return;
    const playing = this.engine?.playing;
    const before = this.song && this.describeSource(this.source);
    this.engine?.dispose();
    this.view?.close();
    this.index = index;
    this.song = song;
    song.colours = song.sources.map(({ kind, row }) => (kind === "reference" ? "--bright" : this.colours[row]));
    $("deck").hidden = false;
    $("song-name").textContent = this.run.songs[index].name;
    this.buildPassages();
    this.buildLanes();
    this.drawCurves();
    const load = (name) => loadEmbedded(index, name);
    this.engine = new Engine(song, load, this.getContext);
    this.engine.addEventListener("state", () => this.showState());
    this.engine.addEventListener("error", (event) => this.say(event.detail));
    this.engine.addEventListener("waiting", () => this.say("This browser decodes too slowly, so the sound paused."));
    const ruler = this.ruler.firstElementChild;
    this.view = new View(song, load, { ruler, lanes: this.canvases }, () => this.showPosition());
    const same = song.sources.findIndex((_, source) => this.describeSource(source) === before);
    this.passage = Math.min(this.passage, song.passages.length - 1);
    this.hear(same < 0 ? Math.min(2, song.sources.length - 1) : same);
    this.choosePassage(this.passage);
    this.showState();
    this.onchange(index);
    await this.view.open();
    const { from, to } = findPassage(song, this.passage);
    this.view.show(from, to);
    if (playing) this.engine.play();
    else await this.engine.prepare();
  }

  say(text) {
    $("status").textContent = text;
  }

  /* Return a source in words. */
  describeSource(index) {
    const { kind, row } = this.song.sources[index];
    if (kind === "mixture") return "Mixture";
    if (kind === "reference") return "Reference";
    return kind === "error" ? `${this.run.rows[row].name}, error` : this.run.rows[row].name;
  }

  // What can be chosen

  buildPassages() {
    const { passages, sources } = this.song;
    const first = sources.find(({ kind }) => kind === "estimate");
    this.tabs = passages.map(({ kind, from, to }, index) => {
      const sdr = first?.sdr[index] ?? null;
      const button = make("button", { onclick: () => this.choosePassage(index) }, make("b", { textContent: KINDS[kind] }));
      button.append(make("small", { textContent: `${formatTime(from)} – ${formatTime(to)}${sdr === null ? "" : `, ${formatScore(sdr)} dB`}` }));
      return button;
    });
    $("passages").replaceChildren(...this.tabs);
  }

  /* A lane for the mixture, the reference and each row; estimate and error of a row share one. */
  buildLanes() {
    this.canvases = this.song.sources.map(() => make("canvas", {}));
    this.lanes = new Map();
    this.song.sources.forEach(({ kind, row }, source) => {
      const canvas = this.canvases[source];
      canvas.setAttribute("aria-hidden", true);
      if (kind === "error") {
        const lane = this.lanes.get(`estimate ${row}`);
        lane.error = source;
        lane.element.querySelector(".track").append(canvas);
        lane.forms = ["Estimate", "Error"].map((text, form) => {
          const button = make("button", { className: "toggle", textContent: text, onclick: () => this.hear(form ? lane.error : lane.source) });
          button.setAttribute("aria-label", `${text} of ${this.run.rows[row].name}`);
          return button;
        });
        lane.element.querySelector(".forms").append(...lane.forms);
        return;
      }
      const element = $("lane").content.firstElementChild.cloneNode(true);
      const button = element.querySelector(".source");
      const lane = { element, button, source, shown: source, forms: [] };
      element.style.setProperty("--hue", `var(${this.song.colours[source]})`);
      button.querySelector("span").textContent = this.describeSource(source);
      button.querySelector("span").dir = "auto";
      button.querySelector("kbd").textContent = this.lanes.size < 9 ? this.lanes.size + 1 : "";
      button.onclick = () => this.hear(lane.shown);
      element.querySelector(".track").append(canvas);
      this.bindTrack(element.querySelector(".track"));
      this.lanes.set(`${kind} ${row}`, lane);
    });
    $("lanes").replaceChildren(...[...this.lanes.values()].map(({ element }) => element));
  }

  choosePassage(index) {
    this.passage = index;
    const { from, to } = findPassage(this.song, index);
    this.engine.setLoop(from, to);
    if (!this.engine.playing) this.engine.seek(from);
    this.tabs.forEach((tab, at) => tab.setAttribute("aria-pressed", at === index));
    this.bands.forEach((band, at) => band.classList.toggle("chosen", at === index));
    this.view.origin = this.song.passages[index].from - from;
    this.view.show(from, to);
    this.setVolumes();
    this.showPosition();
  }

  hear(source) {
    this.source = source;
    for (const lane of this.lanes.values()) {
      const own = source === lane.source || source === lane.error;
      if (own) lane.shown = source;
      lane.element.classList.toggle("heard", own);
      lane.button.setAttribute("aria-pressed", own);
      lane.forms.forEach((button, form) => button.setAttribute("aria-pressed", (form ? lane.error : lane.source) === lane.shown));
      for (const each of [lane.source, lane.error]) if (each !== undefined) this.canvases[each].hidden = each !== lane.shown;
    }
    this.setVolumes();
  }

  /* Hear the error of the estimate that is heard, or the estimate again. */
  switchForm() {
    const lane = [...this.lanes.values()].find(({ source, error }) => this.source === source || this.source === error);
    if (lane?.error !== undefined) this.hear(this.source === lane.error ? lane.source : lane.error);
  }

  setMatched(matched) {
    this.matched = matched;
    $("match").setAttribute("aria-pressed", matched);
    this.setVolumes();
  }

  findGain(source, passage = this.passage) {
    return this.matched ? this.song.sources[source].gains[passage] : 0;
  }

  setVolumes() {
    hearSource(this.engine, this.source, this.findGain(this.source));
    for (const { element, shown } of this.lanes.values()) {
      const { sdr, kind } = this.song.sources[shown];
      const gain = this.findGain(shown);
      const numbers = [`Gain ${gain > 0 ? "+" : ""}${formatNumber(gain, 1)} dB`];
      if (kind === "estimate") numbers.unshift(`SDR ${formatScore(sdr[this.passage])} dB`);
      element.querySelector(".numbers").replaceChildren(...numbers.map((text) => make("span", { textContent: text })));
    }
    const silent = this.song.silent[this.passage];
    $("levels").textContent = silent
      ? "The reference is silent in this passage, so there is no SDR, and levels are not matched."
      : this.matched
        ? "Every source is as loud as the reference in this passage (ITU-R BS.1770, without gates). Its gain is beside it."
        : "Levels are not matched.";
  }

  // Pictures

  /* Draw the waveforms of the whole song, and below them the framewise SDR. */
  drawCurves() {
    const { waveform, frames, frameSeconds, seconds, passages } = this.song;
    const known = frames.flatMap(({ sdr }) => sdr.filter((value) => value !== null)).map((value) => Math.min(Math.max(value, -20), 40));
    const scale = makeScale(Math.min(0, ...known), Math.max(5, ...known));
    const wave = svg("svg", { class: "wave", viewBox: "0 -1 1 2", preserveAspectRatio: "none", "aria-hidden": true });
    for (const [name, values] of Object.entries(waveform)) wave.append(svg("path", { class: name, d: drawOutline(values) }));
    const medians = frames.map(({ row, sdr }) => {
      const sorted = sdr.filter((value) => value !== null).sort((a, b) => a - b);
      return `${this.run.rows[row].name} ${sorted.length ? `${formatScore(findQuantile(sorted, 0.5))} dB` : "none"}`;
    });
    const curves = svg("svg", { class: "curves", viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img" });
    curves.setAttribute("aria-label", `SDR of each second. Medians: ${medians.join("; ")}`);
    for (const tick of scale.ticks) curves.append(svg("path", { class: tick ? "grid" : "grid zero", d: `M0 ${1 - scale.place(tick)}H1` }));
    for (const { row, sdr } of [...frames].reverse()) {
      const curve = svg("path", { class: this.run.rows[row].kind, d: drawSteps(sdr, frameSeconds / seconds, scale) });
      curve.style.setProperty("--hue", `var(${this.colours[row]})`);
      curves.append(curve);
    }
    this.bands = passages.map(({ from, to }, index) => {
      const band = make("div", { className: "band", onclick: (event) => this.seekInSong(index, from + locate(band, event) * (to - from)) });
      band.style.left = `${(100 * from) / seconds}%`;
      band.style.width = `${(100 * (to - from)) / seconds}%`;
      return band;
    });
    $("plot").replaceChildren(wave, curves, ...this.bands, make("div", { className: "playhead" }), this.drawTimes(seconds));
    this.drawAxis(scale);
    $("legend").replaceChildren(...frames.map(({ row }) => {
      const item = make("li", { textContent: this.run.rows[row].name, className: this.run.rows[row].kind, dir: "auto" });
      item.style.setProperty("--hue", `var(${this.colours[row]})`);
      return item;
    }));
  }

  drawAxis(scale) {
    const labels = scale.ticks.map((tick) => {
      const label = make("span", { textContent: formatNumber(tick, 0) });
      label.style.bottom = `${100 * scale.place(tick)}%`;
      return label;
    });
    document.querySelector(".axis").replaceChildren(make("span", { className: "unit", textContent: "SDR, dB" }), make("div", {}, ...labels));
  }

  drawTimes(seconds) {
    const step = [1, 2, 5, 10, 30, 60].find((each) => seconds / each <= 8) ?? 60 * Math.ceil(seconds / CURVE_SECONDS);
    const times = make("div", { className: "ticks" });
    for (let at = 0; at <= seconds * 0.97; at += step) {
      const label = make("span", { textContent: formatTime(at) });
      label.style.left = `${(100 * at) / seconds}%`;
      times.append(label);
    }
    times.setAttribute("aria-hidden", true);
    return times;
  }

  // Playing

  toggle() {
    if (this.engine.playing) this.engine.pause();
    else this.engine.play();
  }

  /* Go to a moment of the song that lies in a passage. */
  seekInSong(passage, seconds) {
    if (passage !== this.passage) this.choosePassage(passage);
    this.seek(findPassage(this.song, passage).from + seconds - this.song.passages[passage].from);
  }

  /* Go to a moment of the bundle, within the passage. */
  seek(seconds) {
    const { from, to } = findPassage(this.song, this.passage);
    this.engine.seek(Math.min(Math.max(seconds, from), to - 0.05));
    this.showPosition();
  }

  bindTrack(track) {
    track.addEventListener("click", (event) => {
      const { from, to } = findPassage(this.song, this.passage);
      this.seek(from + locate(track, event) * (to - from));
    });
  }

  showState() {
    const { playing } = this.engine;
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("play").querySelector("use").setAttribute("href", playing ? "#icon-pause" : "#icon-play");
    this.showPosition();
    if (playing) this.follow();
    else this.onpause();
  }

  follow() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      if (!this.engine.playing) return;
      this.showPosition();
      this.follow();
    });
  }

  showPosition() {
    const { from, to } = findPassage(this.song, this.passage);
    const inside = Math.min(Math.max(this.engine.position - from, 0), to - from);
    this.stage.style.setProperty("--at", (inside / (to - from)) * this.ruler.clientWidth);
    const at = this.song.passages[this.passage].from + inside;
    const playhead = document.querySelector(".playhead");
    if (playhead) playhead.style.left = `${(100 * at) / this.song.seconds}%`;
    const text = formatTime(at, 1);
    if ($("position").textContent !== text) $("position").textContent = text;
  }
}

/* Return the path of a waveform of bytes, mirrored, over a width of 1. */
function drawOutline(values) {
  const points = values.map((value, place) => [(place + 0.5) / values.length, (value / 255) ** 2]);
  const upper = points.map(([x, y]) => `${x.toFixed(4)} ${(-y).toFixed(3)}`);
  const lower = points.reverse().map(([x, y]) => `${x.toFixed(4)} ${y.toFixed(3)}`);
  return `M0 0L${[...upper, "1 0", ...lower].join("L")}Z`;
}

/* Return the path of framewise values over a width of 1, with gaps where there are none. */
function drawSteps(values, width, scale) {
  let path = "";
  values.forEach((value, frame) => {
    if (value === null) return;
    const y = (1 - Math.min(Math.max(scale.place(value), 0), 1)).toFixed(4);
    const joined = frame && values[frame - 1] !== null;
    path += `${joined ? "V" : `M${(frame * width).toFixed(5)} `}${y}H${((frame + 1) * width).toFixed(5)}`;
  });
  return path || "M0 0";
}
