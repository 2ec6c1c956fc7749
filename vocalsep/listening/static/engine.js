"use strict";

/* Plays the stems of one song in one AudioContext.

   A song comes in pieces of ten seconds, each an Opus file per stem. The engine decodes the pieces around the playhead
   and schedules the same piece of all stems for the same sample, so the stems cannot drift apart, in songs of any
   length. Neighbouring pieces overlap and are cross-faded. Positions and lengths are samples of the song, unless a name
   says seconds.

   Events: "state" (played or paused), "waiting" (a piece is late), "error" (detail is a message). */

const LEAD_SECONDS = 0.06; // from a command to its first sample
const AHEAD_SECONDS = 6; // of sound that is always scheduled; browsers slow the timers of hidden pages down
const TICK_MS = 250;
const CACHED_PIECES = 8; // per stem

class Engine extends EventTarget {
  /* song: a song.json; load: (name) => Promise<ArrayBuffer>; getContext: () => the page's AudioContext. */
  constructor(song, load, getContext) {
    super();
    this.grid = song.grid;
    this.stems = song.stems;
    this.load = load;
    this.getContext = getContext;
    this.context = null;
    this.loop = null; // {from, to}
    this.volumes = this.stems.map(() => 1);
    this.session = null; // what is scheduled, while the song plays
    this.at = 0; // the playhead, while it does not
    this.pieces = new Map(); // decoded pieces, the one used last at the end
    this.decoder = new OfflineAudioContext(2, 1, this.grid.rate);
  }

  get seconds() {
    return this.grid.samples / this.grid.rate;
  }

  get playing() {
    return this.session !== null;
  }

  /* The playhead in seconds, as it is heard: the sound device is a little behind the context. */
  get position() {
    const latency = this.playing ? this.context.outputLatency || 0 : 0;
    return this.locate(this.playing ? this.context.currentTime - latency : 0) / this.grid.rate;
  }

  async play() {
    if (this.playing) return;
    if (!this.context) {
      this.context = this.getContext();
      this.outputs = this.volumes.map((volume) => {
        const gain = new GainNode(this.context, { gain: volume });
        gain.connect(this.context.destination);
        return gain;
      });
    }
    if (this.at >= this.grid.samples) this.at = 0;
    const from = this.loop && !this.isInLoop(this.at) ? this.loop.from : this.at;
    this.start(from);
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.dispatchEvent(new Event("state"));
    await this.context.resume();
  }

  pause() {
    if (!this.playing) return;
    this.at = Math.round(this.locate(this.context.currentTime));
    this.end();
  }

  end() {
    this.fadeOut(this.session, this.toTicks(this.context.currentTime));
    this.session = null;
    clearInterval(this.timer);
    this.dispatchEvent(new Event("state"));
  }

  seek(seconds) {
    const at = Math.round(Math.min(Math.max(seconds, 0), this.seconds) * this.grid.rate);
    if (!this.playing) this.at = at;
    else this.start(at);
  }

  /* Repeat from one second to another, or pass nothing to stop that. */
  setLoop(from, to) {
    const rate = this.grid.rate;
    this.loop = from === undefined ? null : { from: Math.round(from * rate), to: Math.round(to * rate) };
    if (!this.playing) return;
    const at = this.locate(this.context.currentTime + LEAD_SECONDS);
    this.start(!this.loop || this.isInLoop(at) ? null : this.loop.from);
  }

  isInLoop(at) {
    return at >= this.loop.from && at < this.loop.to;
  }

  setVolume(index, volume) {
    this.volumes[index] = volume;
    if (this.context) this.outputs[index].gain.setTargetAtTime(volume, this.context.currentTime, 0.012);
  }

  dispose() {
    if (this.playing) this.pause();
    this.outputs?.forEach((output) => setTimeout(() => output.disconnect(), 200));
    this.pieces.clear();
  }

  /* Decode what play() needs first. */
  async prepare() {
    const piece = this.findPiece(this.at);
    await Promise.all(this.stems.map((stem) => this.decode(stem, piece))).catch((error) => this.fail(error));
  }

  fail(error) {
    this.dispatchEvent(new CustomEvent("error", { detail: `This browser cannot play the song: ${error.message}` }));
  }

  // Scheduling

  /* Start to play at a position, or at the position that plays then anyway. */
  start(at) {
    const tick = this.toTicks(this.context.currentTime + LEAD_SECONDS);
    const old = this.session;
    const next = at ?? Math.round(this.locate(tick / this.grid.rate));
    this.session = { next, tick, spans: [], nodes: new Set(), filling: false };
    this.session.outputs = this.outputs.map((output) => {
      const gain = new GainNode(this.context);
      gain.connect(output);
      return gain;
    });
    if (old) this.fadeOut(old, tick);
    this.fill(this.session);
  }

  tick() {
    const { session, context } = this;
    this.fill(session);
    if (session.next === null && this.locate(context.currentTime) >= this.grid.samples) {
      this.at = this.grid.samples;
      this.end();
    }
  }

  /* Schedule pieces until enough of the song is ahead. */
  async fill(session) {
    if (session.filling) return;
    session.filling = true;
    const { grid, context } = this;
    try {
      while (session.next !== null && session.tick < this.toTicks(context.currentTime + AHEAD_SECONDS)) {
        const from = session.next;
        const piece = this.findPiece(from);
        let to = Math.min((piece + 1) * grid.piece, grid.samples);
        const repeats = this.loop && from < this.loop.to && to >= this.loop.to;
        if (repeats) to = this.loop.to;
        const buffers = await Promise.all(this.stems.map((stem) => this.decode(stem, piece)));
        if (session !== this.session) return;
        this.schedule(session, piece, from, to, buffers);
        session.next = repeats ? this.loop.from : to < grid.samples ? to : null;
      }
    } catch (error) {
      if (session !== this.session) return;
      this.pause();
      this.fail(error);
    } finally {
      session.filling = false;
    }
  }

  /* Schedule a span of a piece for all stems, at one sample. */
  schedule(session, piece, from, to, buffers) {
    const { grid, context } = this;
    const soonest = this.toTicks(context.currentTime + LEAD_SECONDS / 3);
    if (session.tick < soonest) {
      session.tick = soonest; // decoding was slow: all stems wait
      if (session.spans.length) this.dispatchEvent(new Event("waiting"));
    }
    const when = session.tick / grid.rate;
    const end = when + (to - from) / grid.rate;
    const fade = Math.min(grid.fade, to - from) / grid.rate;
    const offset = (from - piece * grid.piece + (piece ? grid.before : 0)) / grid.rate;
    buffers.forEach((buffer, index) => {
      const node = new AudioBufferSourceNode(context, { buffer });
      const gain = new GainNode(context, { gain: 0 });
      gain.gain.setValueAtTime(from ? 0 : 1, when);
      gain.gain.linearRampToValueAtTime(1, when + fade);
      gain.gain.setValueAtTime(1, end);
      gain.gain.linearRampToValueAtTime(0, end + fade);
      node.connect(gain).connect(session.outputs[index]);
      node.start(when, offset, end - when + fade);
      node.onended = () => {
        gain.disconnect();
        session.nodes.delete(node);
      };
      session.nodes.add(node);
    });
    session.spans = session.spans.filter((span) => span.end > context.currentTime - 1);
    session.spans.push({ when, end, from, to });
    session.tick += to - from;
  }

  /* End a session without a click. */
  fadeOut(session, tick) {
    const { fade, rate } = this.grid;
    const when = tick / rate;
    for (const output of session.outputs) {
      output.gain.setValueAtTime(1, when);
      output.gain.linearRampToValueAtTime(0, when + fade / rate);
    }
    for (const node of session.nodes) node.stop(when + fade / rate);
  }

  /* Return the position that plays at a time of the context. */
  locate(time) {
    if (!this.session) return this.at;
    const { spans, next } = this.session;
    for (let index = spans.length - 1; index >= 0; index--) {
      const { when, from, to } = spans[index];
      if (when <= time || index === 0) return Math.min(from + Math.max(0, time - when) * this.grid.rate, to);
    }
    return next;
  }

  toTicks(seconds) {
    return Math.ceil(seconds * this.grid.rate);
  }

  findPiece(at) {
    return Math.min(Math.floor(at / this.grid.piece), this.grid.pieces - 1);
  }

  /* Return a decoded piece of a stem. */
  decode(stem, piece) {
    const name = `${stem}/${piece}.opus`;
    const found = this.pieces.get(name) ?? this.load(name).then((bytes) => this.decoder.decodeAudioData(bytes));
    this.pieces.delete(name);
    this.pieces.set(name, found);
    found.catch(() => this.pieces.delete(name));
    if (this.pieces.size > CACHED_PIECES * this.stems.length) this.pieces.delete(this.pieces.keys().next().value);
    return found;
  }
}
