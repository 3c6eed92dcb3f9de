// What the page does: a board of sounds to play, compare and walk over. No library, no request.
(() => {
"use strict";

const $ = selector => document.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const clips = JSON.parse($("#clips").textContent);
const stage = $(".stage");
const WORDS = {mix: "mix", reconstruction: "decoded again", source: "sound", clip: "clip"};
const FADE = 0.008; // seconds in which one sound gives way to another, so that nothing clicks

let context = null;
let voice = null; // what sounds: {source, gain, clip, began, offset, duration}
let current = 0; // the clip on the stage
let home = 0; // the clip that 0 returns to from its sources
let asked = 0; // counts requests, so that a slow one does not overtake a later one
let stoppedAt = 0; // seconds into the clip where it was left
let looping = false;
let levelled = true;
const buffers = new Map();

// Sounds ------------------------------------------------------------------------------------------

function audio() {
  context ??= new AudioContext();
  if (context.state === "suspended") context.resume();
  return context;
}

function bytesOf(address) {
  const text = atob(address.slice(address.indexOf(",") + 1));
  return Uint8Array.from(text, letter => letter.charCodeAt(0));
}

function addressOf(place) { // the element is text as long as there is JavaScript
  const text = $(`#sound${place}`).textContent;
  const start = text.indexOf("data:audio");
  return text.slice(start, text.indexOf('"', start));
}

function bufferOf(place) {
  if (!buffers.has(place))
    buffers.set(place, audio().decodeAudioData(bytesOf(addressOf(place)).buffer));
  return buffers.get(place);
}

const gainOf = place => levelled ? clips[place].gain : 1;

function position() {
  if (!voice) return stoppedAt;
  const passed = context.currentTime - voice.began + voice.offset;
  return voice.source.loop ? passed % voice.duration : Math.min(passed, voice.duration);
}

function silence() {
  if (!voice) return;
  const {source, gain} = voice;
  voice = null;
  source.onended = null;
  gain.gain.setTargetAtTime(0, context.currentTime, FADE / 3);
  source.stop(context.currentTime + FADE * 2);
}

async function play(place, offset = 0) {
  const request = ++asked;
  show(place);
  const buffer = await bufferOf(place);
  if (request !== asked) return;
  silence();
  const source = new AudioBufferSourceNode(context, {buffer, loop: looping});
  const gain = new GainNode(context, {gain: 0});
  source.connect(gain).connect(context.destination);
  gain.gain.setTargetAtTime(gainOf(place), context.currentTime, FADE / 3);
  offset = offset < buffer.duration ? offset : 0;
  voice = {source, gain, clip: place, began: context.currentTime, offset, duration: buffer.duration};
  source.onended = () => { voice = null; stoppedAt = 0; draw(); marked(); };
  source.start(0, offset);
  marked();
  requestAnimationFrame(follow);
  for (const other of clips[place].sources) bufferOf(other); // ready to be compared
}

function stop() {
  asked++;
  stoppedAt = 0;
  silence();
  marked();
  draw();
}

function pause() {
  const there = position();
  stop();
  stoppedAt = there;
  draw();
}

function toggle() {
  if (voice) pause(); else play(current, stoppedAt);
}

// One sound for another, at the same place in time.
function exchange(place) {
  if (!voice) return void play(place);
  const longer = clips[place].seconds / clips[voice.clip].seconds; // stretched: at the same share
  play(place, position() * (Math.abs(longer - 1) > 0.05 ? longer : 1));
}

function seek(place, seconds) {
  if (place === home || place === current) play(place, seconds);
  else choose(place, seconds);
}

function choose(place, offset = 0) {
  home = place;
  compared();
  play(place, offset);
}

// What is seen ------------------------------------------------------------------------------------

function show(place) {
  if (place !== current) stoppedAt = 0;
  current = place;
  const clip = clips[place];
  $("#title").textContent = clip.title;
  $("#note").textContent = clip.note;
  $("#where").textContent = `${place + 1} of ${clips.length}`;
  $("#position").max = clip.seconds;
  const link = $("#download");
  link.dataset.download = place;
  link.download = clip.name;
  const picture = $(`#picture${place}`), view = $("#view");
  view.hidden = !picture;
  if (picture && view.dataset.of !== String(place)) {
    view.src = picture.src;
    view.dataset.of = place;
  }
  axis($("#seconds"), clip.seconds);
  for (const slider of $$("[data-path]")) {
    const places = slider.dataset.path.split(",").map(Number), step = places.indexOf(place);
    if (step < 0) continue;
    slider.value = step;
    slider.setAttribute("aria-valuetext", clip.title);
  }
  for (const button of $$(".compare button"))
    button.setAttribute("aria-pressed", String(Number(button.dataset.clip) === place));
  draw();
}

function compared() {
  const group = $(".compare");
  const places = [home, ...clips[home].sources.filter(place => place !== home)];
  group.replaceChildren(...places.length < 2 ? [] : places.map((place, number) => {
    const button = document.createElement("button"), key = document.createElement("kbd");
    button.type = "button";
    button.dataset.clip = place;
    key.textContent = number;
    button.append(key, " ", number ? clips[place].title : WORDS[clips[place].kind]);
    button.title = clips[place].title;
    button.setAttribute("aria-pressed", String(place === current));
    button.addEventListener("click", () => exchange(place));
    return button;
  }));
  group.hidden = places.length < 2;
}

function marked() {
  document.body.dataset.playing = voice ? voice.clip : "";
  $("#play").textContent = voice ? "Stop" : "Play";
  $("#play").classList.toggle("on", Boolean(voice));
  for (const cell of $$(".playing, .chosen")) cell.classList.remove("playing", "chosen");
  for (const cell of $$(`.cell[data-clip="${current}"], .piece[data-clip="${current}"]`))
    cell.classList.add(voice ? "playing" : "chosen");
}

function draw() {
  const clip = clips[current], there = position(), share = there / clip.seconds;
  if (document.activeElement !== $("#position") || voice) $("#position").value = there;
  $("#position").setAttribute("aria-valuetext", `${there.toFixed(1)} of ${clip.seconds.toFixed(1)} seconds`);
  $("#time").textContent = `${there.toFixed(1)} / ${clip.seconds.toFixed(1)} s`;
  for (const root of $$(`.cell[data-clip="${current}"], .piece[data-clip="${current}"], .view`))
    root.style.setProperty("--at", share);
  for (const board of $$(`.time .board:has(.cell[data-clip="${current}"])`)) // one time for all
    for (const cell of $$(".cell", board))
      cell.style.setProperty("--at", Math.min(1, there / clips[cell.dataset.clip].seconds));
}

function follow() {
  if (!voice) return;
  draw();
  requestAnimationFrame(follow);
}

function axis(element, seconds) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300].find(wide => seconds / wide <= 7) ?? 600;
  const marks = [];
  for (let at = 0; at <= seconds - step * 0.4; at += step) {
    const mark = document.createElement("span");
    mark.textContent = step < 1 ? at.toFixed(1) : String(Math.round(at));
    mark.style.left = `${100 * at / seconds}%`;
    marks.push(mark);
  }
  const last = document.createElement("span");
  last.textContent = `${seconds.toFixed(1)} s`;
  last.className = "last";
  element.replaceChildren(...marks, last);
}

// Boards: one tab stop each, arrows walk and sound -------------------------------------------------

function lines(board) { // rows of cells as they are seen; a gap is undefined
  const cells = $$(".cell", board);
  if (!("flow" in board.dataset))
    return $$("tr", board).map(row => [...row.cells].map(cell => cell.querySelector(".cell")));
  const rows = [];
  let top = null;
  for (const cell of cells) {
    const line = cell.closest("[role=gridcell]").offsetTop;
    if (line !== top) rows.push([]);
    top = line;
    rows[rows.length - 1].push(cell);
  }
  return rows;
}

function stand(board, cell) {
  for (const other of $$(".cell[tabindex='0']", board)) other.tabIndex = -1;
  for (const box of $$("[data-tick]", board)) box.tabIndex = -1;
  cell.tabIndex = 0;
  const box = cell.parentElement.querySelector("[data-tick]");
  if (box) box.tabIndex = 0;
}

const ARROWS = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};

function walk(board, cell, key) {
  const rows = lines(board);
  let row = rows.findIndex(line => line.includes(cell)), column = rows[row].indexOf(cell);
  if (key === "Home" || key === "End") {
    const line = rows[row].filter(Boolean);
    return key === "Home" ? line[0] : line[line.length - 1];
  }
  const [down, right] = ARROWS[key];
  do {
    row += down;
    column += right;
  } while (rows[row] && column >= 0 && column < rows[row].length && !rows[row][column]);
  return rows[row]?.[column];
}

for (const board of $$(".board")) {
  const cells = $$(".cell", board);
  if (!cells.length) continue;
  stand(board, cells.find(cell => cell.matches(".mix")) ?? cells.find(
    cell => cell.matches(".reconstruction")) ?? cells[0]);
  board.addEventListener("click", event => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    stand(board, cell);
    const place = Number(cell.dataset.clip);
    if (voice && looping && voice.clip === place) stop(); else choose(place);
  });
  board.addEventListener("keydown", event => {
    const cell = event.target.closest(".cell");
    if (!cell || !(event.key in ARROWS || event.key === "Home" || event.key === "End")) return;
    event.preventDefault();
    const next = walk(board, cell, event.key);
    if (!next) return;
    stand(board, next);
    next.focus();
    choose(Number(next.dataset.clip));
  });
}

for (const image of $$("img[data-same]")) { // a picture that stands twice is in the file once
  image.src = $(`#picture${image.dataset.same}`).src;
  image.hidden = false;
}

// Sliders along a path, seeking, switches ---------------------------------------------------------

for (const slider of $$("[data-path]")) {
  const places = slider.dataset.path.split(",").map(Number);
  slider.addEventListener("input", () => {
    home = places[slider.value];
    compared();
    exchange(home);
  });
}

document.addEventListener("click", event => {
  const to = event.target.closest("[data-seek-to]"), area = event.target.closest("[data-seek]");
  if (to) return seek(Number(to.dataset.of), Number(to.dataset.seekTo));
  if (!area) return;
  const place = area.dataset.seek === "now" ? current : Number(area.dataset.seek);
  const box = area.getBoundingClientRect();
  seek(place, (event.clientX - box.left) / box.width * clips[place].seconds);
});

for (const group of $$(".marks")) group.addEventListener("keydown", event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key], all = $$("button", group);
  const next = all[all.indexOf(event.target) + step];
  if (!step || !next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

$("#play").addEventListener("click", toggle);
$("#position").addEventListener("input", event => {
  if (voice) play(current, Number(event.target.value));
  else { stoppedAt = Number(event.target.value); draw(); }
});
$("#loop").addEventListener("click", () => {
  looping = !looping;
  $("#loop").setAttribute("aria-pressed", String(looping));
  if (!voice) return;
  const there = position();
  play(current, there);
});
$("#level").addEventListener("click", () => {
  levelled = !levelled;
  $("#level").setAttribute("aria-pressed", String(levelled));
  if (voice) voice.gain.gain.setTargetAtTime(gainOf(voice.clip), context.currentTime, FADE);
});

document.addEventListener("click", event => { // the address is made when it is needed
  const link = event.target.closest("[data-download]");
  if (!link) return;
  const place = link.dataset.download;
  const sound = new Blob([bytesOf(addressOf(place))], {type: clips[place].media});
  const address = URL.createObjectURL(sound);
  link.href = address;
  setTimeout(() => { URL.revokeObjectURL(address); link.href = "#"; }, 60000);
});

for (const button of $$("[data-copy]")) button.addEventListener("click", async () => {
  const from = $(`#${button.dataset.copy}`);
  try {
    await navigator.clipboard.writeText(from.textContent);
  } catch { // a page from disk may not be trusted with the clipboard: select it instead
    getSelection().selectAllChildren(from);
    document.execCommand("copy");
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
});

// The keyboard ------------------------------------------------------------------------------------

const held = new Map(); // pitch: {source, gain}
const notes = new Map(); // clip: [[pitch, buffer], ...]
let shift = 0; // octaves that the keys are moved by
let bus = null;

function notesOf(place) {
  if (!notes.has(place)) {
    const element = $(`#keys${place}`);
    notes.set(place, element ? Promise.all(JSON.parse(element.textContent).map(
      async ([pitch, address]) => [pitch, await audio().decodeAudioData(bytesOf(address).buffer)]))
      : Promise.resolve([]));
  }
  return notes.get(place);
}

async function press(pitch, strength = 0.8) {
  release(pitch);
  const mine = {};
  held.set(pitch, mine);
  $(`[data-pitch="${pitch}"]`)?.classList.add("down");
  const made = await notesOf(home);
  if (held.get(pitch) !== mine || !made.length) return;
  const [nearest, buffer] = made.reduce((best, next) =>
    Math.abs(next[0] - pitch) < Math.abs(best[0] - pitch) ? next : best);
  if (!bus) {
    bus = new DynamicsCompressorNode(context, {threshold: -12, ratio: 12, attack: 0.002});
    bus.connect(context.destination);
  }
  mine.source = new AudioBufferSourceNode(context, {
    buffer, playbackRate: 2 ** ((pitch - nearest) / 12)});
  mine.gain = new GainNode(context, {gain: strength * 0.7});
  mine.source.connect(mine.gain).connect(bus);
  mine.source.start();
  document.body.dataset.note = `${pitch} from ${nearest}`;
}

function release(pitch) {
  const note = held.get(pitch);
  held.delete(pitch);
  $(`[data-pitch="${pitch}"]`)?.classList.remove("down");
  if (!note?.source) return;
  note.gain.gain.setTargetAtTime(0, context.currentTime, 0.06);
  note.source.stop(context.currentTime + 0.4);
}

const piano = $(".piano");
if (piano) {
  piano.addEventListener("pointerdown", event => {
    const key = event.target.closest("[data-pitch]");
    if (!key) return;
    key.releasePointerCapture(event.pointerId);
    press(Number(key.dataset.pitch));
  });
  piano.addEventListener("pointerover", event => { // a glissando
    const key = event.target.closest("[data-pitch]");
    if (key && event.buttons & 1 && !held.has(Number(key.dataset.pitch)))
      press(Number(key.dataset.pitch));
  });
  for (const name of ["pointerout", "pointerup", "pointercancel"])
    piano.addEventListener(name, event => {
      const key = event.target.closest("[data-pitch]");
      if (key) release(Number(key.dataset.pitch));
    });
  piano.addEventListener("keydown", event => {
    const key = event.target.closest("[data-pitch]"), all = $$("[data-pitch]", piano);
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      if (!event.repeat) press(Number(key.dataset.pitch));
    }
    const next = all[all.indexOf(key) + {ArrowLeft: -1, ArrowRight: 1}[event.key]];
    if (!next) return;
    event.preventDefault();
    key.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  piano.addEventListener("keyup", event => {
    if (event.key === " " || event.key === "Enter")
      release(Number(event.target.dataset.pitch));
  });
  for (const button of $$("[data-octave]"))
    button.addEventListener("click", () => octave(Number(button.dataset.octave)));
  const midi = $("#midi");
  midi.hidden = !navigator.requestMIDIAccess;
  midi.addEventListener("click", async () => {
    try {
      const access = await navigator.requestMIDIAccess();
      listen(access);
      access.onstatechange = () => listen(access); // one that is plugged in later
    } catch {
      $("#midi-said").textContent = "The browser does not allow it here.";
    }
  });
}

function listen(access) {
  const inputs = [...access.inputs.values()];
  for (const input of inputs) input.onmidimessage = ({data: [status, pitch, velocity]}) => {
    if ((status & 0xf0) === 0x90 && velocity) press(pitch, velocity / 127);
    else if ((status & 0xe0) === 0x80) release(pitch);
  };
  $("#midi-said").textContent = inputs.length
    ? `Listening to ${inputs.map(input => input.name).join(", ")}.` : "No MIDI keyboard is plugged in.";
}

function octave(step) { // the keys move, for the mouse as for the letters
  if (Math.abs(shift + step) > 1) return;
  for (const pitch of [...held.keys()]) release(pitch);
  shift += step;
  for (const key of $$("[data-pitch]", piano)) {
    key.dataset.pitch = Number(key.dataset.pitch) + 12 * step;
    key.setAttribute("aria-label", key.getAttribute("aria-label").replace(/\d+$/, n => Number(n) + step));
    if (key.dataset.name) key.dataset.name = key.getAttribute("aria-label");
  }
  for (const button of $$("[data-octave]")) button.disabled = shift === Number(button.dataset.octave);
}

// The list of ticked instruments ------------------------------------------------------------------

const ticked = [];
for (const box of $$("[data-tick]")) box.addEventListener("change", () => {
  if (box.checked) ticked.push(box.dataset.tick);
  else ticked.splice(ticked.indexOf(box.dataset.tick), 1);
  const list = $("#list");
  list.textContent = ticked.length
    ? `--instruments ${ticked.join(",")} --seed ${list.dataset.seed}` : "nothing ticked yet";
  $("[data-copy=list]").disabled = !ticked.length;
});

// Keys of the whole page --------------------------------------------------------------------------

const letters = new Map($$("[data-letter]").map(key => [key.dataset.letter, key]));
const down = new Map(); // letter: the pitch it plays, whatever the octave has become since

document.addEventListener("keydown", event => {
  const typing = event.target.matches("input:not([type=range]):not([type=checkbox]), textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing) return;
  const key = event.key.toLowerCase(), places = [home, ...clips[home].sources];
  if (key === "escape") stop();
  else if (key === "l") $("#loop").click();
  else if (/^[0-2]$/.test(key) && places.length > 1 && Number(key) < places.length)
    exchange(places[Number(key)]);
  else if (key === " " && event.target === document.body) { event.preventDefault(); toggle(); }
  else if (piano && (key === "z" || key === "x")) octave(key === "x" ? 1 : -1);
  else if (letters.has(key)) {
    down.set(key, Number(letters.get(key).dataset.pitch));
    press(down.get(key));
  }
});
document.addEventListener("keyup", event => {
  const key = event.key.toLowerCase();
  if (down.has(key)) release(down.get(key));
  down.delete(key);
});
addEventListener("blur", () => [...held.keys()].forEach(release));

for (const element of $$(".axis[data-seconds]")) axis(element, Number(element.dataset.seconds));
stage.hidden = false;
$("details").open = false;
const start = $(".cell.mix") ?? $(".cell.reconstruction") ?? $(".cell, .piece");
home = start ? Number(start.dataset.clip) : 0;
compared();
show(home);
marked();
for (const words of $$("[data-sources]"))
  words.hidden = !clips.some(clip => clip.sources.length >= Number(words.dataset.sources));
})();
