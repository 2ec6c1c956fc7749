"use strict";

/* Blind tests. What is played in which order is drawn when a test begins, and is nowhere in the document before its end. */

const ABX_TRIALS = 16;
const SIDES = ["A", "B"];

/* What the two tests share: a dialog that asks for two sources, a number of trials, and the result. */
class BlindTest {
  /* deck: the Deck of the page; run: what the page shows; onpause: called when the sound stops. */
  constructor(deck, run, onpause) {
    Object.assign(this, { deck, run, onpause, dialog: $("test") });
  }

  prepare(title, note, options, chosen) {
    BlindTest.current = this;
    this.deck.engine?.pause();
    this.deck.engine?.prepare();
    $("test-title").textContent = title;
    $("setup-note").textContent = note;
    [$("first"), $("second")].forEach((select, side) => {
      select.replaceChildren(...options.map(({ text, value }) => new Option(text, value)));
      select.selectedIndex = chosen[side];
    });
    $("setup-error").textContent = "";
    this.showPart("setup");
    this.dialog.showModal();
  }

  showPart(name) {
    for (const part of ["setup", "trial", "result"]) $(part).hidden = part !== name;
  }

  begin() {
    if ($("first").value === $("second").value) {
      $("setup-error").textContent = "Choose two different sources.";
      return;
    }
    this.trials = this.draw();
    this.answers = [];
    this.buildButtons("hear", this.voices, (voice) => this.hear(voice));
    this.buildButtons("answer", this.choices, (choice) => this.answer(choice));
    $("trial-note").textContent = this.keys;
    this.showPart("trial");
    this.next();
  }

  buildButtons(id, entries, action) {
    $(id).replaceChildren(...entries.map(({ text, value, key }) => {
      const button = make("button", { type: "button", textContent: text, onclick: () => action(value) });
      button.setAttribute("aria-keyshortcuts", key);
      button.dataset.value = value;
      return button;
    }));
  }

  async next() {
    const number = this.answers.length;
    if (number === this.trials.length) return this.finish();
    $("trial-number").textContent = `Trial ${number + 1} of ${this.trials.length}`;
    Object.assign($("progress"), { max: this.trials.length, value: number });
    this.started = performance.now();
    this.switches = -1;
    await this.cue(this.trials[number]);
    if (this.answers.length === number && this.dialog.open) this.hear(this.voices[0].value);
  }

  hear(voice) {
    this.switches++;
    this.play(voice);
    for (const button of $("hear").children) button.setAttribute("aria-pressed", button.dataset.value === voice);
  }

  answer(choice) {
    if (this.answers.length >= this.trials.length || this.switches < 0) return;
    const seconds = Math.round((performance.now() - this.started) / 100) / 10;
    this.answers.push({ choice, seconds, switches: this.switches });
    this.next();
  }

  finish() {
    this.stop();
    const { version, dataset, split, snr } = this.run;
    this.report = { vocalsep: version, dataset, split, snr_db: snr, ...this.summarise() };
    this.showPart("result");
    $("download").focus();
  }

  download() {
    const link = make("a", { download: `${this.report.test}.json` });
    link.href = `data:application/json;charset=utf-8,${encodeURIComponent(`${JSON.stringify(this.report, null, 2)}\n`)}`;
    link.click();
  }

  press(event) {
    if ($("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const find = (entries) => entries.find(({ key }) => key.toLowerCase() === event.key.toLowerCase());
    const [voice, choice] = [find(this.voices), find(this.choices)];
    if (!voice && !choice && event.key !== " ") return;
    if (event.key === " " && event.target.matches("button")) return;
    event.preventDefault();
    if (voice) this.hear(voice.value);
    else if (choice) this.answer(choice.value);
    else if (this.engine.playing) this.engine.pause();
    else this.engine.play();
  }
}

/* ABX: which of A and B is X? (Clark, "High-resolution subjective testing using a double-blind comparator", 1982) */
class AbxTest extends BlindTest {
  voices = ["A", "B", "X"].map((text) => ({ text, value: text, key: text }));
  choices = SIDES.map((side, index) => ({ text: `X is ${side}`, value: side, key: index ? "ArrowRight" : "ArrowLeft" }));
  keys = "Keys: A, B and X to listen, ← for “X is A”, → for “X is B”, Space to pause.";

  open() {
    const { song, passage } = this.deck;
    const { kind, from, to } = song.passages[passage];
    const options = song.sources.map((_, value) => ({ text: this.deck.describeSource(value), value }));
    const estimates = song.sources.flatMap(({ kind: each }, index) => (each === "estimate" ? [index] : []));
    const note = `${ABX_TRIALS} trials in this song, ${KINDS[kind].toLowerCase()}, ${formatTime(from)} to ${formatTime(to)}. Levels are matched.`;
    $("count-label").hidden = true;
    this.prepare("ABX test", note, options, [estimates[0] ?? 0, estimates[1] ?? 1]);
  }

  draw() {
    this.pair = [Number($("first").value), Number($("second").value)];
    this.engine = this.deck.engine;
    return Array.from({ length: ABX_TRIALS }, () => SIDES[drawNumber(2)]);
  }

  cue() {
    this.engine.seek(findPassage(this.deck.song, this.deck.passage).from);
  }

  play(voice) {
    const source = this.pair[SIDES.indexOf(voice === "X" ? this.trials[this.answers.length] : voice)];
    hearSource(this.engine, source, this.deck.song.sources[source].gains[this.deck.passage]);
    this.engine.play();
  }

  stop() {
    this.engine?.pause();
    this.deck.setVolumes();
  }

  summarise() {
    const { song, index, passage } = this.deck;
    const right = this.answers.filter(({ choice }, trial) => choice === this.trials[trial]).length;
    const p = binomialTail(right, ABX_TRIALS);
    $("result-figure").textContent = `${right} of ${ABX_TRIALS} right`;
    $("result-text").textContent =
      `p = ${formatP(p)}: somebody who only guesses gets ${right} or more right in ${formatShare(p)} of all tests (exact binomial test, one-sided). ` +
      (p < 0.05 ? "You can very likely hear the difference." : "This shows neither that you can hear the difference nor that you cannot.");
    const [a, b] = this.pair.map((source) => this.deck.describeSource(source));
    const { kind, from, to } = song.passages[passage];
    return {
      test: "abx", a, b, song: this.run.songs[index].name, passage: { kind, from, to }, level_matched: true,
      trials: this.answers.map(({ choice, seconds, switches }, trial) => ({
        x: this.trials[trial], answer: choice, right: choice === this.trials[trial], seconds, switches,
      })),
      right, count: ABX_TRIALS, p,
    };
  }
}

/* Which of two models sounds better? */
class PreferenceTest extends BlindTest {
  voices = [["1", "1"], ["2", "2"], ["Reference", "R"], ["Mixture", "M"]].map(([text, key]) => ({ text, value: text, key }));
  choices = [["1 sounds better", "1", "ArrowLeft"], ["2 sounds better", "2", "ArrowRight"], ["No difference", "none", "ArrowDown"]]
    .map(([text, value, key]) => ({ text, value, key }));
  keys = "Keys: 1, 2, R and M to listen, ← for 1, → for 2, ↓ for no difference, Space to pause.";

  async open() {
    const { rows, songs } = this.run;
    const models = rows.flatMap(({ name, kind }, value) => (kind === "model" ? [{ text: name, value }] : []));
    this.songs = await Promise.all(songs.map(({ heard }, index) => (heard ? readSong(index) : null)));
    const most = this.songs.reduce((sum, song) => sum + (song?.passages.length ?? 0), 0);
    const note = `${most === 1 ? "One passage" : `${most} passages of all songs, in random order`}. If there are more trials than passages, passages are repeated. Levels are matched.`;
    $("count-label").hidden = false;
    $("count").value = Math.max(most, Math.min(2 * most, 16));
    this.prepare("Preference test", note, models, [0, Math.min(1, models.length - 1)]);
  }

  draw() {
    this.rows = [Number($("first").value), Number($("second").value)];
    const find = (song, row) => song.sources.findIndex((source) => source.kind === "estimate" && source.row === row);
    const places = this.songs.flatMap((song, index) => {
      const sources = song ? this.rows.map((row) => find(song, row)) : [-1];
      return sources.includes(-1) ? [] : song.passages.map((_, passage) => ({ index, passage, sources }));
    });
    const count = Math.min(Math.max(Number($("count").value) || 1, 1), 200);
    const trials = [];
    while (places.length && trials.length < count) trials.push(...shuffle(places).slice(0, count - trials.length));
    return trials.map((trial) => ({ ...trial, flipped: drawNumber(2) === 1 }));
  }

  /* Get the four stems of a trial ready, with a clock of their own. */
  async cue({ index, passage, sources }) {
    this.engine?.dispose();
    this.song = this.songs[index];
    this.used = [0, 1, ...sources]; // mixture and reference are first
    const stems = this.used.map((source) => this.song.stems[source]);
    this.engine = new Engine({ grid: this.song.grid, stems }, (name) => loadEmbedded(index, name), this.deck.getContext);
    this.engine.addEventListener("state", this.onpause);
    const { from, to } = findPassage(this.song, passage);
    this.engine.seek(from);
    this.engine.setLoop(from, to);
    await this.engine.prepare();
  }

  play(voice) {
    const { flipped, passage } = this.trials[this.answers.length];
    const place = { Mixture: 0, Reference: 1, 1: flipped ? 3 : 2, 2: flipped ? 2 : 3 }[voice];
    hearSource(this.engine, place, this.song.sources[this.used[place]].gains[passage]);
    this.engine.play();
  }

  stop() {
    this.engine?.dispose();
    this.engine = null;
  }

  summarise() {
    const names = this.rows.map((row) => this.run.rows[row].name);
    const preferred = this.answers.map(({ choice }, trial) => {
      if (choice === "none") return null;
      return (choice === "1") === this.trials[trial].flipped ? 1 : 0;
    });
    const [first, second] = [0, 1].map((side) => preferred.filter((each) => each === side).length);
    const ties = preferred.filter((each) => each === null).length;
    const decided = first + second;
    const interval = decided ? findInterval(first, decided) : null;
    const p = decided ? signTest(first, second) : null;
    $("result-figure").textContent = `${first} : ${second}`;
    $("result-text").textContent = `${names[0]} preferred: ${first}. ${names[1]} preferred: ${second}. No difference: ${ties}. ` +
      (decided
        ? `Where you had a preference, it was ${names[0]} in ${formatShare(first / decided)} of the trials, 95 % interval ${formatShare(interval[0])} to ${formatShare(interval[1])} ` +
          `(exact, Clopper and Pearson); p = ${formatP(p)} (sign test, two-sided).`
        : "You had no preference in any trial.");
    return {
      test: "preference", a: names[0], b: names[1], level_matched: true,
      trials: this.answers.map(({ choice, seconds, switches }, trial) => {
        const { index, passage, flipped } = this.trials[trial];
        const { kind, from, to } = this.songs[index].passages[passage];
        const order = flipped ? [names[1], names[0]] : names;
        const answer = preferred[trial] === null ? null : names[preferred[trial]];
        return { song: this.run.songs[index].name, passage: { kind, from, to }, order, preferred: answer, seconds, switches };
      }),
      preferred_a: first, preferred_b: second, no_difference: ties, share_a: decided ? first / decided : null, interval, p,
    };
  }
}

function formatShare(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 2 : 0)} %`;
}

function formatP(p) {
  return p < 0.0001 ? p.toExponential(1).replace("-", "−") : p.toFixed(4);
}
