"use strict";

/* The page of vocalsep serve: songs arrive, wait, are separated, and can be heard and downloaded.

   The server knows all songs and tells what changes; a page that is reloaded, or a second one, shows the same. Uploads
   belong to the page that sends them. */

const HEADERS = { "X-Vocalsep": "1" }; // the server changes nothing without it
const ACTIVE = ["uploading", "working", "waiting"];
const LABELS = {
  gate: "Silence where nobody sings",
  masks: "Masks of dpcl and hdpcl",
  inversion: "Turn the spectrogram into sound",
  auto: "what the model was made for",
  net: "from the net",
  clusters: "from clusters in the song",
  phase: "with the song's phase",
  "griffin-lim": "Griffin-Lim",
  "griffin-lim-phase": "Griffin-Lim, from the song's phase",
};

class Desk {
  constructor() {
    this.songs = new Map(); // what the server says, and uploads
    this.items = new Map(); // their elements
    this.uploads = []; // that wait to be sent
    this.sent = null; // the upload on its way
    this.held = []; // songs that the server tells before this upload ends: one of them is the upload
    this.shown = ""; // what the main part shows
    this.selected = location.hash.slice(1);
    this.player = window.player = new Player(this);
    $("songs").hidden = false;
    this.bind();
    this.listen();
  }

  async load(id, name) {
    const response = await fetch(`/api/songs/${id}/bundle/${name}`);
    if (!response.ok) throw new Error(await readError(response));
    return response.arrayBuffer();
  }

  // Events of the server

  /* Hidden pages do not listen: a browser opens only six connections to a server. */
  listen() {
    this.events?.close();
    if (document.hidden) return;
    this.events = new EventSource("/api/events");
    this.events.addEventListener("start", (event) => this.start(JSON.parse(event.data)));
    this.events.addEventListener("change", (event) => this.change(JSON.parse(event.data)));
    this.events.onerror = () => {
      const ended = this.events.readyState === EventSource.CLOSED;
      this.notify(`vocalsep serve does not answer. ${ended ? "If you have started it again, open the address that it printed then." : "Is it still running?"}`);
    };
  }

  start(about) {
    this.notify("");
    if (!this.about) this.buildChoices(about);
    this.about = about;
    this.held = [];
    const known = new Set(about.songs.map(({ id }) => id));
    const gone = [...this.songs.values()].filter(({ id, file }) => !file && !known.has(id)).map(({ id }) => id);
    this.change({ ...about, gone });
  }

  change({ songs, gone, used }) {
    gone.forEach((id) => this.forget(id));
    this.held = this.held.filter(({ id }) => !gone.includes(id));
    for (const song of songs) {
      const isSent = this.sent && (this.sent.done === 1 || this.sent.name === song.name);
      if (isSent && !this.songs.has(song.id)) this.held.push(song);
      else this.put(song);
    }
    if (used !== undefined) this.used = used;
    this.refresh();
  }

  put(song) {
    const before = this.songs.get(song.id);
    this.songs.set(song.id, song);
    if (before?.state === "done" && song.state === "done") return; // its size may have changed
    this.drawItem(song);
  }

  forget(id) {
    this.songs.delete(id);
    this.items.get(id)?.remove();
    this.items.delete(id);
  }

  // The list

  drawItem(song) {
    let item = this.items.get(song.id);
    if (!item) {
      item = $("item").content.firstElementChild.cloneNode(true);
      item.querySelector(".song").onclick = () => this.select(song.id);
      item.querySelector(".cross").onclick = () => this.remove(this.songs.get(song.id));
      item.querySelector("span").textContent = song.name;
      this.items.set(song.id, item);
    }
    item.dataset.state = song.state;
    item.querySelector("small").textContent = describeShort(song);
    const verb = ACTIVE.includes(song.state) ? "Stop and remove" : "Remove";
    item.querySelector(".cross").setAttribute("aria-label", `${verb} ${song.name}`);
    showProgress(item.querySelector("progress"), song);
  }

  /* What is in progress first, in its order; then the rest, the newest first. */
  refresh() {
    const all = [...this.songs.values()];
    const rank = ({ state }) => ACTIVE.indexOf(state) + (ACTIVE.includes(state) ? 0 : 9);
    const active = all.filter(({ state }) => ACTIVE.includes(state)).sort((one, other) => rank(one) - rank(other));
    const sorted = [...active, ...all.filter(({ state }) => !ACTIVE.includes(state)).reverse()];
    const list = $("songs").querySelector("ol");
    const items = sorted.map(({ id }) => this.items.get(id));
    const moved = items.length !== list.children.length || items.some((item, at) => item !== list.children[at]);
    if (moved) list.replaceChildren(...items);
    if (!this.songs.has(this.selected)) this.selected = sorted[0]?.id ?? "";
    for (const [id, item] of this.items) item.querySelector(".song").setAttribute("aria-current", id === this.selected);
    this.showRoom();
    this.show();
  }

  showRoom() {
    if (!this.about) return;
    const { limit } = this.about;
    $("room").hidden = !this.songs.size;
    $("room").querySelector("progress").value = this.used / limit;
    $("room").querySelector("span").textContent = `${formatSize(this.used)} of ${formatSize(limit)}`;
  }

  select(id) {
    this.selected = id;
    this.refresh();
  }

  // The selected song

  show() {
    if (!this.about) return;
    const song = this.songs.get(this.selected);
    const state = song?.state ?? "none";
    $("welcome").hidden = state !== "none";
    $("name").hidden = $("summary").hidden = state === "none";
    $("sound").hidden = $("downloads").hidden = state !== "done";
    $("work").hidden = state === "none" || state === "done";
    const shown = `${this.selected} ${state}`;
    if (shown !== this.shown) history.replaceState(null, "", this.selected ? `#${this.selected}` : "/"); // for a reload
    if (shown !== this.shown && state !== "done") {
      this.player.close();
      document.title = "vocalsep";
    }
    if (shown !== this.shown && state === "done") {
      $("download-status").textContent = song.warnings.join(" ");
      const { id } = song;
      this.player.open(song).catch((error) => this.player.opening === id && this.notify(error.message));
    }
    this.shown = shown;
    if (state === "none" || state === "done") return;
    $("name").textContent = song.name;
    $("summary").textContent = song.options.model;
    $("work").dataset.state = state;
    $("work-text").textContent = describeLong(song);
    showProgress($("work").querySelector("progress"), song);
    $("stop").hidden = !ACTIVE.includes(state);
    $("again").hidden = $("remove").hidden = ACTIVE.includes(state);
    $("again").hidden ||= Boolean(song.file && !song.retry);
  }

  async remove(song) {
    if (song.state === "done" && !(await ask(`Remove “${song.name}”? Its vocals and accompaniment are deleted here; your own file stays.`))) return;
    if (!song.file) await this.send("DELETE", `/api/songs/${song.id}`);
    song.cancel?.();
    this.forget(song.id);
    this.refresh();
  }

  async removeAll() {
    if (!(await ask(`Remove all ${this.songs.size} songs, and stop what is in progress? Your own files stay.`))) return;
    const songs = [...this.songs.values()];
    this.uploads = [];
    for (const { cancel } of songs) cancel?.();
    await this.send("POST", "/api/clear");
    for (const { id } of songs) this.forget(id);
    this.refresh();
  }

  stop() {
    const song = this.songs.get(this.selected);
    if (song.file) this.remove(song);
    else this.send("POST", `/api/songs/${song.id}/stop`);
  }

  restart() {
    const { id } = this.songs.get(this.selected);
    this.send("POST", `/api/songs/${id}/start?${new URLSearchParams(this.readChoices())}`);
  }

  async download(file) {
    const url = `/api/songs/${this.selected}/files/${file}`;
    const status = $("download-status");
    status.textContent = `Preparing ${file} …`;
    const response = await fetch(url, { headers: { Range: "bytes=0-0" } }).catch(() => null);
    status.textContent = !response ? "vocalsep serve does not answer." : response.ok ? "" : `${file}: ${await readError(response)}`;
    if (response?.ok) make("a", { href: url, download: "" }).click();
  }

  async send(method, url) {
    const response = await fetch(url, { method, headers: HEADERS }).catch(() => null);
    if (!response?.ok && response?.status !== 404) this.notify(response ? await readError(response) : "vocalsep serve does not answer.");
  }

  notify(text) {
    $("notice").textContent = text;
    $("notice").hidden = !text;
  }

  // Uploads

  add(files) {
    const options = this.readChoices();
    for (const file of files) {
      const id = `upload-${(this.count = (this.count ?? 0) + 1)}`;
      const song = { id, file, name: file.name, state: "uploading", options, seconds: 1, done: 0, warnings: [], error: "" };
      if (file.size > this.about?.songLimit) Object.assign(song, { state: "failed", error: `larger than ${formatSize(this.about.songLimit)}, the limit for one file` });
      else this.uploads.push(song);
      this.put(song);
    }
    this.refresh();
    this.sendAll();
  }

  /* Send one song after another. */
  async sendAll() {
    if (this.sending) return;
    this.sending = true;
    while (this.uploads.length) await this.upload(this.uploads.shift());
    this.sending = false;
  }

  upload(song) {
    return new Promise((resolve) => {
      if (!this.songs.has(song.id)) return resolve();
      const request = new XMLHttpRequest();
      request.open("POST", `/api/songs?${new URLSearchParams({ ...song.options, name: song.name })}`);
      for (const [name, value] of Object.entries(HEADERS)) request.setRequestHeader(name, value);
      request.upload.onprogress = ({ loaded, total }) => {
        song.done = loaded / total;
        this.drawItem(song);
        this.show();
      };
      request.onloadend = () => {
        const followed = this.selected === song.id;
        if (request.status === 201) {
          const { id } = JSON.parse(request.responseText);
          this.forget(song.id);
          if (!this.songs.has(id)) this.put({ ...song, id, file: null, state: "waiting", seconds: null, done: 0 });
          if (followed) this.selected = id;
        } else if (this.songs.has(song.id)) {
          let error = "The upload failed. Is vocalsep serve still running? Is the file still there?";
          try {
            error = JSON.parse(request.responseText).error;
          } catch { /* the connection broke */ }
          this.put(Object.assign(song, { state: "failed", error }));
        }
        this.held.forEach((each) => this.put(each));
        [this.sent, this.held] = [null, []];
        this.refresh();
        resolve();
      };
      this.sent = song;
      song.cancel = () => request.abort();
      request.send(song.file);
    });
  }

  // Choices

  buildChoices({ options, purposes, formats, limit, songLimit }) {
    const { gate, model, ...more } = options;
    const select = (name, values) => {
      const element = make("select", { name }, ...values.map((value) => make("option", { value, textContent: LABELS[value] ?? value })));
      return make("label", {}, make("span", { textContent: LABELS[name] ?? "Model" }), element);
    };
    const purpose = make("p", { className: "small" });
    const box = make("label", { className: "check" }, make("input", { type: "checkbox", name: "gate" }), LABELS.gate);
    const research = make("details", {}, make("summary", { textContent: "For researchers" }), ...Object.entries(more).map(([name, values]) => select(name, values)));
    $("choices").append(select("model", model), purpose, box, research);
    const show = () => {
      const chosen = this.readChoices().model;
      $("chosen").textContent = chosen;
      purpose.textContent = purposes[chosen] ?? "";
    };
    $("choices").onchange = show;
    show();
    $("format").append(...formats.map((format) => make("option", { textContent: format })));
    $("limits").textContent = `Up to ${formatSize(songLimit)} per file, ${formatSize(limit)} in all.`;
  }

  readChoices() {
    const found = {};
    for (const { name, type, checked, value } of $("choices").querySelectorAll("select, input"))
      found[name] = type === "checkbox" ? (checked ? "yes" : "no") : value;
    return found;
  }

  bind() {
    $("choose").onchange = () => {
      this.add($("choose").files);
      $("choose").value = "";
    };
    $("stop").onclick = () => this.stop();
    $("again").onclick = $("redo").onclick = () => this.restart();
    $("remove").onclick = $("delete").onclick = () => this.remove(this.songs.get(this.selected));
    $("clear").onclick = () => this.removeAll();
    for (const button of $("downloads").querySelectorAll("[data-stem], [data-file]"))
      button.onclick = () => this.download(button.dataset.file ?? `${button.dataset.stem}.${$("format").value}`);
    document.addEventListener("visibilitychange", () => this.listen());
    addEventListener("beforeunload", (event) => [...this.songs.values()].some(({ state }) => state === "uploading") && event.preventDefault());
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      $("drop").hidden = false;
    });
    addEventListener("dragleave", (event) => event.relatedTarget || ($("drop").hidden = true));
    addEventListener("drop", async (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      $("drop").hidden = true;
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      this.add(entries.length ? (await Promise.all(entries.map(readEntry))).flat() : event.dataTransfer.files);
    });
  }
}

/* Return the files of a folder and its subfolders, or a file. */
async function readEntry(entry) {
  if (entry.isFile) return new Promise((resolve) => entry.file((file) => resolve([file]), () => resolve([])));
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return (await Promise.all(found.filter(({ name }) => !name.startsWith(".")).map(readEntry))).flat();
    found.push(...some);
  }
}

function describeShort({ state, seconds, done }) {
  if (state === "uploading") return done ? `${Math.floor(done * 100)} %` : "to upload";
  if (state === "working" && !done) return "starting";
  if (state === "working") return seconds ? `${Math.floor((100 * done) / seconds)} %` : formatTime(done);
  return state === "done" ? formatTime(seconds) : state;
}

function describeLong({ state, seconds, done, error }) {
  const length = seconds ? ` of ${formatTime(seconds)}` : "";
  return {
    uploading: done ? `Uploading: ${Math.floor(done * 100)} %` : "Waiting to be uploaded.",
    waiting: "Waiting for its turn.",
    working: done ? `Separating: ${formatTime(done)}${length}` : "Loading the model …",
    failed: error,
    stopped: "Stopped.",
  }[state];
}

function showProgress(element, { state, seconds, done }) {
  element.hidden = state !== "working" && state !== "uploading";
  if (done && seconds) element.value = Math.min(1, done / seconds);
  else element.removeAttribute("value");
}

async function readError(response) {
  return (await response.json().catch(() => ({}))).error ?? response.statusText;
}

function ask(text) {
  $("ask-text").textContent = text;
  $("ask").returnValue = "no";
  $("ask").showModal();
  return new Promise((resolve) => ($("ask").onclose = () => resolve($("ask").returnValue === "yes")));
}

function formatSize(bytes) {
  const [unit, factor] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, size]) => bytes >= size) ?? ["bytes", 1];
  return `${Number((bytes / factor).toPrecision(3))} ${unit}`;
}

window.desk = new Desk();
