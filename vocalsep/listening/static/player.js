"use strict";

/* The page: songs, buttons, keys, and what connects Engine and View.

   A source has `load(id, name)`, which returns a part of a song's bundle. */

const DRAG_PIXELS = 5; // a shorter movement is a click

class Player {
  constructor(source) {
    this.source = source;
    this.fader = 0; // -1: vocals alone, 1: accompaniment alone
    this.stage = document.querySelector(".stage");
    this.overview = $("overview");
    this.bindButtons();
    this.bindOverview();
    this.bindTrack(document.querySelector(".ruler"));
    document.addEventListener("keydown", (event) => this.press(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.view?.recolour());
    if (matchMedia("(pointer: coarse)").matches) this.say("Tap a waveform to go there. Pinch to zoom.");
  }

  close() {
    this.engine?.dispose();
    this.view?.close();
    this.view = this.opening = null;
  }

  async open({ id, name }) {
    const load = (part) => this.source.load(id, part);
    this.close();
    this.opening = id;
    document.title = `${name} · vocalsep`;
    const song = JSON.parse(new TextDecoder().decode(await load("song.json")));
    if (this.opening !== id) return;
    this.song = song;
    this.mark = this.loop = null;
    $("name").textContent = name;
    $("summary").textContent = song.summary;
    $("command").textContent = song.command;
    $("facts").replaceChildren(...song.facts.flatMap(([label, text]) => [
      make("dt", { textContent: label }), make("dd", { textContent: text, dir: "auto" }),
    ]));
    this.buildLanes();
    this.buildVoice();
    this.engine = new Engine(song, load, () => this.getContext());
    this.engine.addEventListener("state", () => this.showState());
    this.engine.addEventListener("error", (event) => this.say(event.detail));
    this.engine.addEventListener("waiting", () => this.say("This browser decodes too slowly, so the sound paused."));
    const lanes = this.lanes.map((lane) => lane.querySelector("canvas"));
    const elements = { overview: this.overview.firstElementChild, ruler: $("loop-from").parentElement.firstElementChild, lanes };
    this.view = new View(song, load, elements, () => this.showRange());
    this.setVolumes();
    this.showState();
    $("length").textContent = formatTime(this.engine.seconds);
    await this.view.open();
    if (this.opening === id) await this.engine.prepare();
  }

  /* All songs share one context. Browsers allow sound only after a click or a key, so it is made then. */
  getContext() {
    if (navigator.audioSession) navigator.audioSession.type = "playback"; // iPhones: not muted by the ring switch
    this.context ??= new AudioContext({ sampleRate: this.song.grid.rate, latencyHint: "balanced" });
    return this.context;
  }

  buildLanes() {
    this.mixer = this.song.stems.map(() => ({ volume: 1, solo: false, mute: false }));
    this.lanes = this.song.stems.map((stem, index) => {
      const lane = $("lane").content.firstElementChild.cloneNode(true);
      const state = this.mixer[index];
      lane.style.setProperty("--hue", `var(--stem-${index % 6})`);
      lane.querySelector("h2").textContent = stem;
      lane.querySelector("canvas").setAttribute("aria-hidden", true);
      for (const kind of ["solo", "mute"]) {
        const button = lane.querySelector(`.${kind}`);
        button.setAttribute("aria-label", `${button.textContent} ${stem}`);
        button.onclick = () => {
          state[kind] = !state[kind];
          button.setAttribute("aria-pressed", state[kind]);
          this.setVolumes();
        };
      }
      const slider = lane.querySelector(".volume");
      slider.setAttribute("aria-label", `Volume of ${stem}`);
      slider.oninput = () => {
        state.volume = Number(slider.value);
        slider.setAttribute("aria-valuetext", formatLevel(state.volume ** 2));
        this.setVolumes();
      };
      this.bindTrack(lane.querySelector(".track"));
      return lane;
    });
    $("lanes").replaceChildren(...this.lanes);
  }

  buildVoice() {
    const { voice } = this.song;
    $("voice-row").hidden = !voice.length;
    this.bars = voice.map(([from, to]) => {
      const label = `Voice from ${formatTime(from)} to ${formatTime(to)}`;
      const bar = make("button", { title: `${label} (Shift: loop)`, tabIndex: -1 });
      bar.setAttribute("aria-label", label);
      bar.onclick = (event) => {
        if (event.shiftKey) this.setLoop(from, to);
        this.seek(from);
      };
      return bar;
    });
    $("voice").replaceChildren(...this.bars);
    for (const id of ["next-voice", "previous-voice"]) $(id).disabled = !voice.length;
  }

  // Mixing

  setFader(value) {
    this.fader = value;
    $("fader").value = value;
    this.setVolumes();
  }

  setVolumes() {
    const two = this.mixer.length === 2;
    const faded = two ? [Math.min(1, 1 - this.fader), Math.min(1, 1 + this.fader)] : [];
    const alone = this.mixer.some(({ solo }) => solo);
    document.querySelector(".fader").hidden = !two;
    this.mixer.forEach(({ volume, solo, mute }, index) => {
      const gain = mute || (alone && !solo) ? 0 : volume ** 2 * Math.sin(((faded[index] ?? 1) * Math.PI) / 2);
      this.engine.setVolume(index, gain);
      this.lanes[index].classList.toggle("silent", gain < 0.001);
    });
    const places = { vocals: -1, mixture: 0, accompaniment: 1 };
    for (const [name, place] of Object.entries(places)) $(`mix-${name}`).setAttribute("aria-pressed", this.fader === place);
    const [quiet, level] = this.fader < 0 ? ["accompaniment", faded[1]] : ["vocals", faded[0]];
    const text = this.fader ? `${quiet} ${formatLevel(Math.sin((level * Math.PI) / 2))}` : "mixture";
    $("fader").setAttribute("aria-valuetext", text);
  }

  // Moving

  toggle() {
    if (this.engine.playing) this.engine.pause();
    else this.engine.play();
  }

  seek(seconds) {
    this.engine.seek(seconds);
    this.view.reveal(Math.min(Math.max(seconds, 0), this.view.seconds - 0.001));
    this.showPosition();
  }

  seekVoice(step) {
    const at = this.engine.position;
    const starts = this.song.voice.map(([from]) => from);
    const found = step > 0 ? starts.find((start) => start > at + 0.1) : starts.findLast((start) => start < at - 1);
    if (found === undefined) this.say(step > 0 ? "Nobody sings after this." : "Nobody sings before this.");
    else this.seek(found);
  }

  /* The start of a loop, its end, no loop. */
  cycleLoop() {
    const at = this.engine.position;
    if (this.loop) this.clearLoop();
    else if (this.mark === null) {
      this.mark = at;
      this.say(`The loop starts at ${formatTime(at, 1)}. Press L or the loop button again where it should end.`);
    } else this.setLoop(this.mark, at);
    this.showLoop();
  }

  setLoop(from, to) {
    if (Math.abs(to - from) < 0.1) return this.clearLoop();
    this.loop = { from: Math.max(0, Math.min(from, to)), to: Math.min(Math.max(from, to), this.engine.seconds) };
    this.mark = null;
    this.engine.setLoop(this.loop.from, this.loop.to);
    this.say(`Looping ${formatTime(this.loop.from, 1)} to ${formatTime(this.loop.to, 1)}. Press L or the loop button to clear the loop.`);
    this.showLoop();
  }

  clearLoop() {
    this.loop = this.mark = null;
    this.engine.setLoop();
    this.say("Loop cleared.");
    this.showLoop();
  }

  // Showing

  say(text) {
    $("status").textContent = text;
  }

  showState() {
    const { playing } = this.engine;
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("play").querySelector("use").setAttribute("href", playing ? "#icon-pause" : "#icon-play");
    this.showPosition();
    if (playing) this.follow();
    else setTimeout(() => this.engine.playing || this.context?.suspend(), 200);
  }

  follow() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      if (!this.engine.playing) return;
      const before = this.shown;
      this.showPosition();
      // Follow the playhead when it leaves the lanes, but not when the user has moved them away from it.
      if (before <= this.view.to && this.shown > this.view.to) this.view.reveal(this.shown);
      this.follow();
    });
  }

  showPosition() {
    const { position, seconds } = this.engine;
    this.shown = position;
    const width = this.lanes[0].lastElementChild.clientWidth;
    const place = this.view.place(position);
    this.stage.style.setProperty("--at", place < 0 || place > 1 ? -9 : place * width);
    this.overview.style.setProperty("--at-overview", (position / seconds) * this.overview.clientWidth);
    const text = formatTime(position, 1);
    if ($("position").textContent === text) return;
    $("position").textContent = text;
    this.overview.setAttribute("aria-valuenow", Math.floor(position));
    this.overview.setAttribute("aria-valuemax", Math.floor(seconds));
    this.overview.setAttribute("aria-valuetext", `${formatTime(position)} of ${formatTime(seconds)}`);
  }

  /* Show what depends on the visible range. */
  showRange() {
    const { from, to, seconds } = this.view;
    this.song.voice.forEach(([start, end], index) => {
      const { style } = this.bars[index];
      style.left = `${this.view.place(start) * 100}%`;
      style.width = `${((end - start) / (to - from)) * 100}%`;
    });
    const { style } = this.overview.querySelector(".window");
    style.left = `${(from / seconds) * 100}%`;
    style.width = `${((to - from) / seconds) * 100}%`;
    const whole = to - from >= seconds - 0.001;
    this.overview.querySelector(".window").hidden = $("zoom-out").disabled = $("zoom-fit").disabled = whole;
    this.showLoop();
    this.showPosition();
  }

  showLoop(range = this.loop ?? (this.mark === null ? null : { from: this.mark, to: this.mark })) {
    this.stage.classList.toggle("looped", Boolean(range));
    $("loop").setAttribute("aria-pressed", Boolean(this.loop));
    for (const end of ["from", "to"]) {
      const handle = $(`loop-${end}`);
      handle.hidden = !this.loop;
      if (!range) continue;
      const place = this.view.place(range[end]);
      this.stage.style.setProperty(`--loop-${end}`, place);
      handle.style.setProperty("--place", place);
      handle.setAttribute("aria-valuenow", range[end].toFixed(1));
      handle.setAttribute("aria-valuemax", this.engine.seconds.toFixed(1));
      handle.setAttribute("aria-valuetext", formatTime(range[end], 1));
    }
  }

  // Pointers and keys

  bindButtons() {
    const actions = {
      play: () => this.toggle(),
      start: () => this.seek(0),
      "previous-voice": () => this.seekVoice(-1),
      "next-voice": () => this.seekVoice(1),
      loop: () => this.cycleLoop(),
      "zoom-in": () => this.zoom(0.5),
      "zoom-out": () => this.zoom(2),
      "zoom-fit": () => this.view.show(0, this.view.seconds),
      "mix-mixture": () => this.setFader(0),
      "mix-vocals": () => this.setFader(-1),
      "mix-accompaniment": () => this.setFader(1),
      copy: () => this.copyCommand(),
    };
    for (const [id, action] of Object.entries(actions)) $(id).onclick = () => this.view && action();
    $("help-open").onclick = () => $("help").showModal();
    $("theme").onclick = () => this.switchTheme();
    $("fader").oninput = () => this.setFader(Number($("fader").value));
    $("fader").ondblclick = () => this.setFader(0);
    // A click must not move the focus: the space bar should still play, and the arrows seek.
    document.addEventListener("mousedown", (event) => event.target.closest("button") && event.preventDefault());
    document.addEventListener("pointerup", (event) => event.target.matches("input[type=range]") && event.target.blur());
    for (const end of ["from", "to"]) this.bindHandle($(`loop-${end}`), end);
  }

  zoom(factor) {
    const { from, to } = this.view;
    const at = this.engine.position;
    this.view.zoom(factor, at >= from && at <= to ? at : (from + to) / 2);
  }

  switchTheme() {
    const { dataset } = document.documentElement;
    const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    dataset.theme = dark ? "light" : "dark";
    this.view?.recolour();
  }

  async copyCommand() {
    try {
      await navigator.clipboard.writeText(this.song.command);
      $("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($("command"));
      $("copy").textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => ($("copy").textContent = "Copy"), 2000);
  }

  bindOverview() {
    const seek = (event) => this.seek(locate(this.overview, event) * this.engine.seconds);
    this.overview.onpointerdown = (event) => {
      this.overview.setPointerCapture(event.pointerId);
      seek(event);
    };
    this.overview.onpointermove = (event) => this.overview.hasPointerCapture(event.pointerId) && seek(event);
  }

  toSeconds(track, event) {
    return this.view.from + locate(track, event) * (this.view.to - this.view.from);
  }

  /* Click to seek. Drag to loop with a mouse, to move with a finger; two fingers zoom, as does Ctrl with the wheel. */
  bindTrack(track) {
    const fingers = new Map();
    let start = null;
    const restart = () => {
      const [first, second] = fingers.values();
      const { from, to } = this.view;
      start = { x: first.clientX, seconds: this.toSeconds(track, first), from, to, moved: Boolean(second) };
      if (second) start.distance = Math.max(1, Math.abs(second.clientX - first.clientX));
    };
    track.addEventListener("pointerdown", (event) => {
      if (event.button || event.target.closest("button, .handle")) return;
      track.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      restart();
    });
    track.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId) || !this.view) return;
      fingers.set(event.pointerId, event);
      const [first, second] = fingers.values();
      const { from, to, seconds } = start;
      if (second) {
        const distance = Math.max(1, Math.abs(second.clientX - first.clientX));
        const length = ((to - from) * start.distance) / distance;
        const left = seconds - length * locate(track, first);
        this.view.show(left, left + length);
        return;
      }
      start.moved ||= Math.abs(event.clientX - start.x) > DRAG_PIXELS;
      if (!start.moved) return;
      const moved = ((start.x - event.clientX) / track.clientWidth) * (to - from);
      if (event.pointerType === "touch") this.view.show(from + moved, to + moved);
      else {
        const now = this.toSeconds(track, event);
        this.showLoop({ from: Math.min(now, seconds), to: Math.max(now, seconds) });
      }
    });
    const end = (event) => {
      if (!fingers.delete(event.pointerId) || !this.view) return;
      if (fingers.size) return restart();
      if (event.type === "pointercancel") return this.showLoop();
      if (!start.moved) this.seek(start.seconds);
      else if (event.pointerType !== "touch") this.setLoop(start.seconds, this.toSeconds(track, event));
    };
    track.addEventListener("pointerup", end);
    track.addEventListener("pointercancel", end);
    track.addEventListener("wheel", (event) => {
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (!event.ctrlKey && !sideways) return;
      event.preventDefault();
      const { from, to } = this.view;
      const moved = (event.deltaX / track.clientWidth) * (to - from);
      if (event.ctrlKey) this.view.zoom(Math.exp(event.deltaY / 200), this.toSeconds(track, event));
      else this.view.show(from + moved, to + moved);
    }, { passive: false });
  }

  bindHandle(handle, end) {
    const move = (seconds) => this.setLoop(this.loop[end === "from" ? "to" : "from"], seconds);
    handle.onpointerdown = (event) => handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (event) => {
      if (handle.hasPointerCapture(event.pointerId)) this.showLoop({ ...this.loop, [end]: this.toSeconds(handle.parentElement, event) });
    };
    handle.onpointerup = (event) => move(this.toSeconds(handle.parentElement, event));
    handle.onkeydown = (event) => {
      const step = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key];
      if (!step) return;
      event.stopPropagation();
      move(this.loop[end] + step);
    };
  }

  press(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || !this.view) return;
    if (target.matches("select, summary")) return;
    if (target.matches("input") && (key.startsWith("Arrow") || key === "Home" || key === "End")) return;
    if (target.matches("button, [type=checkbox], [type=file]") && key === " ") return;
    const seconds = event.shiftKey ? 1 : 5;
    const actions = {
      " ": () => this.toggle(),
      1: () => this.setFader(0),
      2: () => this.setFader(-1),
      3: () => this.setFader(1),
      ArrowLeft: () => this.seek(this.engine.position - seconds),
      ArrowRight: () => this.seek(this.engine.position + seconds),
      ArrowUp: () => this.zoom(0.5),
      ArrowDown: () => this.zoom(2),
      Home: () => this.seek(0),
      End: () => this.seek(this.engine.seconds),
      n: () => this.seekVoice(1),
      p: () => this.seekVoice(-1),
      l: () => this.cycleLoop(),
      "?": () => $("help").showModal(),
    };
    const action = actions[key.length === 1 ? key.toLowerCase() : key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

/* The bundles that a page holds itself. */
class EmbeddedSource {
  constructor() {
    this.songs = JSON.parse($("embedded").textContent);
  }

  load(id, name) {
    return loadEmbedded(id, name);
  }
}

/* Show the songs that the page holds itself. */
function openPage() {
  const source = new EmbeddedSource();
  const open = (index) => {
    buttons.forEach((button, at) => button.setAttribute("aria-current", at === index));
    player.open(source.songs[index]);
  };
  const buttons = source.songs.map(({ name, seconds }, index) =>
    make("button", { onclick: () => open(index) },
      make("span", { textContent: name, dir: "auto" }), make("small", { textContent: formatTime(seconds) })));
  $("songs").hidden = buttons.length < 2;
  $("songs").querySelector("ol").append(...buttons.map((button) => make("li", {}, button)));
  const player = (window.player = new Player(source));
  open(0);
}

if ($("embedded")) openPage();
