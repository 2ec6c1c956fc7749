"use strict";

/* The page of an evaluation: what connects Scores, Deck and the blind tests. */

class Evaluation {
  constructor(run) {
    this.run = run;
    this.describe();
    this.deck = new Deck(run, () => this.getContext(), (index) => this.showSong(index), () => this.rest());
    this.scores = new Scores(run, (index) => this.open(index, true));
    this.abx = new AbxTest(this.deck, run, () => this.rest());
    this.preference = new PreferenceTest(this.deck, run, () => this.rest());
    this.bindButtons();
    document.addEventListener("keydown", (event) => this.press(event));
    const first = run.songs.findIndex(({ heard }) => heard);
    if (first >= 0) this.open(first, false);
  }

  describe() {
    const { dataset, split, snr, version, command, songs, rows } = this.run;
    const models = rows.filter(({ kind }) => kind === "model");
    const title = `${dataset}, ${split}${snr === null ? "" : `, voice at ${snr} dB`}`;
    $("name").textContent = title;
    const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
    $("summary").textContent = `${count(songs.length, "song")} · ${models.map(({ name }) => name).join(", ")}`;
    $("command").textContent = command;
    const facts = [
      ["Version", `vocalsep ${version}`],
      ["Floor", "the mixture, unseparated"],
      ["Ceiling", "ideal masks, made from the true vocals"],
      ["Passages", "10 seconds each, chosen by the SDR of each second for the first model"],
    ];
    $("facts").replaceChildren(...facts.flatMap(([label, text]) => [make("dt", { textContent: label }), make("dd", { textContent: text })]));
  }

  /* All songs and tests share one context. Browsers allow sound only after a click or a key, so it is made then. */
  getContext() {
    if (navigator.audioSession) navigator.audioSession.type = "playback"; // iPhones: not muted by the ring switch
    this.context ??= new AudioContext({ sampleRate: this.deck.song.grid.rate, latencyHint: "balanced" });
    return this.context;
  }

  /* Stop the clock when nothing plays. */
  rest() {
    const playing = () => [this.deck, BlindTest.current].some((player) => player?.engine?.playing);
    setTimeout(() => playing() || this.context?.suspend(), 200);
  }

  async open(index, scroll) {
    await this.deck.open(index);
    if (scroll) $("deck").scrollIntoView({ block: "start" });
  }

  showSong(index) {
    this.scores.mark(index);
    $("blind").hidden = false;
    $("preference-open").disabled = this.run.rows.filter(({ kind }) => kind === "model").length < 2;
  }

  /* Open the next song in the order of the table. */
  step(direction) {
    const heard = this.scores.order.filter((index) => this.run.songs[index].heard);
    const place = (heard.indexOf(this.deck.index) + direction + heard.length) % heard.length;
    this.open(heard[place], false);
  }

  bindButtons() {
    const actions = {
      play: () => this.deck.toggle(),
      match: () => this.deck.setMatched(!this.deck.matched),
      "previous-song": () => this.step(-1),
      "next-song": () => this.step(1),
      "abx-open": () => this.abx.open(),
      "preference-open": () => this.preference.open(),
      begin: () => BlindTest.current.begin(),
      stop: () => $("test").close(),
      download: () => BlindTest.current.download(),
    };
    for (const [id, action] of Object.entries(actions)) $(id).onclick = () => this.deck.view && action();
    $("help-open").onclick = () => $("help").showModal();
    $("theme").onclick = () => this.switchTheme();
    $("copy").onclick = () => this.copyCommand();
    $("test").addEventListener("close", () => BlindTest.current.stop());
    // A click must not move the focus: the space bar should still play.
    document.addEventListener("mousedown", (event) => event.target.closest("#deck button, #trial button") && event.preventDefault());
  }

  switchTheme() {
    const { dataset } = document.documentElement;
    const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    dataset.theme = dark ? "light" : "dark";
    this.deck.view?.recolour();
  }

  async copyCommand() {
    try {
      await navigator.clipboard.writeText(this.run.command);
      $("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($("command"));
      $("copy").textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => ($("copy").textContent = "Copy"), 2000);
  }

  press(event) {
    const { key, target } = event;
    if ($("test").open) return BlindTest.current.press(event);
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || target.matches("select, input")) return;
    if (key === "?") return $("help").showModal();
    if (!this.deck.view || (target.matches("button") && key === " ")) return;
    const { deck } = this;
    const lanes = [...deck.lanes.values()];
    const actions = {
      " ": () => deck.toggle(),
      ArrowLeft: () => deck.seek(deck.engine.position - 1),
      ArrowRight: () => deck.seek(deck.engine.position + 1),
      e: () => deck.switchForm(),
      l: () => deck.setMatched(!deck.matched),
      p: () => deck.choosePassage((deck.passage + 1) % deck.song.passages.length),
      j: () => this.step(1),
      k: () => this.step(-1),
    };
    const lane = lanes[Number(key) - 1];
    const action = lane ? () => deck.hear(lane.shown) : actions[key.length === 1 ? key.toLowerCase() : key];
    if (!action || (key.startsWith("Arrow") && target.matches(".scroll"))) return;
    event.preventDefault();
    action();
  }
}

window.evaluation = new Evaluation(JSON.parse($("run").textContent));
