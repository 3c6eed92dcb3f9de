// Play, compare and mix the page's sounds, also on a keyboard, without libraries or requests.
(() => {
"use strict";

const $ = selector => document.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const sounds = JSON.parse($("#sounds").textContent);
if (!sounds.length) return; // the list of runs
const sliders = $$("[data-path]"), stepsOf = slider => slider.dataset.path.split(",").map(Number);
const FADE = 0.008; // seconds of the crossfade between two sounds, so that nothing clicks
const LONG = 20; // seconds of a sound whose decoding takes noticeable time

let context = null, bus = null;
let voice = null; // what is playing: {layers: Map(index: {source, gain}), began, offset, duration}
let home = 0; // the selected sound
let current = 0; // the selected sound, or the source that it is compared with
let blend = null; // between two steps: {first, second, share}
let stoppedAt = 0; // seconds at which playback was paused
let asked = 0; // counts requests: a slow one must not overtake a later one
let loading = false, looping = false, levelled = true;
let chosen = []; // the selected instruments, in order
const buffers = new Map(), ready = new Set();

// Sounds ------------------------------------------------------------------------------------------

function audio() {
  if (!context) {
    context = new AudioContext();
    bus = new DynamicsCompressorNode(context, {threshold: -12, ratio: 12, attack: 0.002});
    bus.connect(context.destination);
  }
  if (context.state === "suspended") context.resume();
  return context;
}

function bytesOf(address) {
  const text = atob(address.slice(address.indexOf(",") + 1)), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

function addressOf(index) { // with JavaScript, the element is text
  const text = $(`#sound${index}`).textContent, start = text.indexOf("data:audio");
  return text.slice(start, text.indexOf('"', start));
}

async function decoded(index) {
  if (sounds[index].seconds > LONG) await new Promise(done => setTimeout(done, 50)); // paint first
  const buffer = await audio().decodeAudioData(bytesOf(addressOf(index)).buffer);
  ready.add(index);
  return buffer;
}

function bufferOf(index) {
  if (!buffers.has(index)) buffers.set(index, decoded(index));
  return buffers.get(index);
}

const gainOf = index => levelled ? sounds[index].gain : 1;
const mixture = () => blend && current === home ? // [[index, gain], ...]: equal power
  [[blend.first, Math.cos(blend.share * Math.PI / 2)],
   [blend.second, Math.sin(blend.share * Math.PI / 2)]] : [[current, 1]];

function position() {
  if (!voice) return stoppedAt;
  const passed = context.currentTime - voice.began + voice.offset;
  return looping ? passed % voice.duration : Math.min(passed, voice.duration);
}

function fadeOut({source, gain}) {
  source.onended = null;
  gain.gain.setTargetAtTime(0, context.currentTime, FADE / 3);
  source.stop(context.currentTime + FADE * 2);
}

function silence() {
  asked++;
  loading = false;
  if (voice) [...voice.layers.values()].forEach(fadeOut);
  voice = null;
}

function started(index, buffer, offset) {
  const source = new AudioBufferSourceNode(context, {buffer, loop: looping});
  const gain = new GainNode(context, {gain: 0});
  source.connect(gain).connect(context.destination);
  source.start(0, offset);
  source.onended = () => {
    if (voice?.layers.get(index)?.source !== source) return;
    voice = null;
    stoppedAt = 0;
    shown();
  };
  return {source, gain};
}

async function play(offset = position()) { // sounds of the mixture that are playing keep playing
  const request = ++asked, wanted = mixture(), moved = voice && Math.abs(offset - position()) > 0.01;
  loading = wanted.some(([index]) => sounds[index].seconds > LONG && !ready.has(index));
  shown();
  const made = await Promise.all(wanted.map(([index]) => bufferOf(index)));
  if (request !== asked) return;
  const late = voice && !moved ? position() - offset : 0; // seconds since the decoding began
  const old = voice?.layers ?? new Map(), layers = new Map();
  const duration = Math.max(...made.map(buffer => buffer.duration));
  offset = offset + late < duration ? offset + late : 0;
  wanted.forEach(([index, gain], place) => {
    const layer = !moved && old.get(index) || started(index, made[place], offset);
    layer.gain.gain.setTargetAtTime(gain * gainOf(index), context.currentTime, FADE / 3);
    layers.set(index, layer);
  });
  for (const [index, layer] of old) if (layers.get(index) !== layer) fadeOut(layer);
  voice = {layers, began: context.currentTime, offset, duration};
  loading = false;
  shown();
  requestAnimationFrame(follow);
  for (const other of sounds[current].compare) bufferOf(other); // ready to be compared
}

function stop(at = 0) {
  silence();
  stoppedAt = at;
  shown();
  remember();
}

function toggle() {
  if (voice || loading) stop(position()); else play();
}

function exchange(index) { // switch sounds at the same time; if stretched, the same fraction
  const longer = sounds[index].seconds / sounds[current].seconds;
  const at = voice ? position() * (Math.abs(longer - 1) > 0.05 ? longer : 1) : 0;
  current = index;
  play(at);
}

function select(index) {
  home = current = index;
  blend = null;
  stoppedAt = 0;
  compared();
}

function choose(index, offset = 0) {
  select(index);
  if (voice) silence();
  play(offset);
  remember();
}

// Display -----------------------------------------------------------------------------------------

const minutes = seconds => `${Math.floor(Math.round(seconds) / 60)}:${
  String(Math.round(seconds) % 60).padStart(2, "0")}`;
const clock = seconds => seconds < 59.95 ? `${seconds.toFixed(1)} s` : minutes(seconds);

function blended() { // the mixing weights between two steps, in words
  const [first, second] = [blend.first, blend.second].map(index => sounds[index]);
  return first.sources.map((name, place) => `${Math.round(100 * (
    first.weights[place] * (1 - blend.share) + second.weights[place] * blend.share))} % ${name}`)
    .join(", ");
}

function compared() {
  const group = $(".compare"), places = [home, ...sounds[home].compare];
  group.replaceChildren(...places.length < 2 ? [] : places.map((index, number) => {
    const button = document.createElement("button"), key = document.createElement("kbd");
    const {title, kind} = sounds[index];
    button.dataset.clip = index;
    key.textContent = number;
    button.append(key, " ", number ? title : kind === "reconstruction" ? kind : "mix");
    button.title = title;
    button.addEventListener("click", () => exchange(index));
    return button;
  }));
  group.hidden = places.length < 2;
}

function shown() {
  const sound = sounds[current], moving = blend && current === home;
  document.body.dataset.playing = voice ? current : "";
  $("#title").textContent = moving ? blended() : sound.title;
  $("#note").textContent = moving ? "between two steps" : sound.note;
  $("#position").max = sound.seconds;
  $("#download").dataset.download = current;
  $("#download").download = `${sound.name.split("/").pop()}.flac`;
  $("#sfz").hidden = !sound.sfz;
  $("#sfz").textContent = $("#sfz").href = sound.sfz;
  const picture = $(`#picture${current}`), view = $("#view");
  $(".screen").hidden = !picture;
  if (picture && view.dataset.of !== String(current)) view.src = picture.src;
  view.dataset.of = current;
  axis($("#seconds"), sound.seconds);
  for (const slider of sliders) {
    const steps = stepsOf(slider);
    if (!steps.includes(current)) continue;
    slider.value = moving ? steps.indexOf(blend.first) + blend.share : steps.indexOf(current);
    slider.setAttribute("aria-valuetext", $("#title").textContent);
  }
  for (const button of $$(".compare button"))
    button.setAttribute("aria-pressed", String(Number(button.dataset.clip) === current));
  const word = loading ? "Loading" : voice ? "Pause" : "Play";
  $("#play").textContent = word;
  $("#play").setAttribute("aria-busy", String(loading));
  for (const button of $$("[data-player]")) {
    button.textContent = Number(button.dataset.player) === current ? word : "Play";
    button.setAttribute("aria-label", `${button.textContent} ${sounds[button.dataset.player].title}`);
  }
  for (const cell of $$(".playing, .chosen")) cell.classList.remove("playing", "chosen");
  for (const [index] of mixture()) for (const cell of cellsOf(index))
    cell.classList.add(voice ? "playing" : "chosen");
  draw();
}

const cellsOf = index => $$(`.cell[data-clip="${index}"], .piece[data-clip="${index}"]`);

function draw() {
  const {seconds} = sounds[current], there = position(), share = there / seconds;
  if (document.activeElement !== $("#position") || voice) $("#position").value = there;
  $("#position").setAttribute("aria-valuetext", `${clock(there)} of ${clock(seconds)}`);
  $("#time").textContent = `${seconds < 59.95 ? there.toFixed(1) : minutes(there)} / ${clock(seconds)}`;
  for (const root of [...cellsOf(current), $(".view")]) root.style.setProperty("--at", share);
  for (const board of $$(`.time .board:has(.cell[data-clip="${current}"])`)) // one time axis
    for (const cell of $$(".cell", board))
      cell.style.setProperty("--at", Math.min(1, there / sounds[cell.dataset.clip].seconds));
}

function follow() {
  if (!voice) return;
  draw();
  requestAnimationFrame(follow);
}

function axis(element, seconds) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300].find(wide => seconds / wide <= 7) ?? 600;
  const mark = (at, text) => Object.assign(document.createElement("span"),
    {textContent: text, style: `left: ${100 * at / seconds}%`});
  const marks = [];
  for (let at = 0; at <= seconds * 0.88; at += step)
    marks.push(mark(at, seconds >= 59.95 ? minutes(at) : at.toFixed(step < 1 ? 1 : 0)));
  const last = mark(0, clock(seconds));
  last.className = "last";
  element.replaceChildren(...marks, last);
}

// Panels: one tab stop each; arrow keys move and play ---------------------------------------------

function lines(board) { // the rows of cells on the screen; a gap is null
  if (!("flow" in board.dataset))
    return $$("tr", board).map(row => [...row.cells].map(cell => cell.querySelector(".cell")));
  const rows = new Map();
  for (const cell of $$(".cell", board)) {
    const top = cell.parentElement.offsetTop;
    rows.set(top, [...rows.get(top) ?? [], cell]);
  }
  return [...rows.values()];
}

function stand(board, cell) {
  for (const other of $$(".cell, [data-tick]", board)) other.tabIndex = -1;
  for (const item of $$(".cell, [data-tick]", cell.parentElement)) item.tabIndex = 0;
}

const ARROWS = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};

function walk(board, cell, key) {
  const rows = lines(board);
  let row = rows.findIndex(line => line.includes(cell)), column = rows[row].indexOf(cell);
  if (key === "Home") return rows[row].find(Boolean);
  if (key === "End") return rows[row].filter(Boolean).pop();
  do {
    row += ARROWS[key][0];
    column += ARROWS[key][1];
  } while (rows[row] && column >= 0 && column < rows[row].length && !rows[row][column]);
  return rows[row]?.[column];
}

const firstCell = root => root.querySelector(".cell.mix, .cell.step, .cell.crossfade") ??
  root.querySelector(".cell.reconstruction") ?? root.querySelector(".cell, .piece");

for (const board of $$(".board")) {
  stand(board, firstCell(board));
  board.addEventListener("click", event => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    stand(board, cell);
    const index = Number(cell.dataset.clip);
    if (voice && looping && current === index) stop(); else choose(index);
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

for (const image of $$("img[data-same]")) { // the file holds each picture once
  image.src = $(`#picture${image.dataset.same}`).src;
  image.hidden = false;
}

// Sliders, positions, buttons ---------------------------------------------------------------------

function between(steps, value) {
  const first = Math.min(Math.floor(value), steps.length - 1), share = value - first;
  const index = steps[first + Math.round(share)];
  if (index !== home) { home = index; compared(); }
  current = home;
  blend = share > 0.001 ? {first: steps[first], second: steps[first + 1], share} : null;
}

for (const slider of sliders) slider.addEventListener("input", () => {
  if (!stepsOf(slider).includes(current)) stoppedAt = 0;
  between(stepsOf(slider), Number(slider.value));
  play();
  remember();
});

document.addEventListener("click", event => {
  const to = event.target.closest("[data-seek-to]"), area = event.target.closest("[data-seek]");
  const player = event.target.closest("[data-player]"), link = event.target.closest("[data-download]");
  if (to) choose(Number(to.dataset.of), Number(to.dataset.seekTo));
  else if (area) {
    const index = area.dataset.seek === "now" ? current : Number(area.dataset.seek);
    const box = area.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * sounds[index].seconds;
    if (index === current) play(at); else choose(index, at);
  } else if (player) {
    if (Number(player.dataset.player) === current) toggle(); else choose(Number(player.dataset.player));
  } else if (link) { // the address is made when it is needed
    const file = new Blob([bytesOf(addressOf(link.dataset.download))], {type: "audio/flac"});
    link.href = URL.createObjectURL(file);
    setTimeout(() => { URL.revokeObjectURL(link.href); link.href = "#"; }, 60000);
  }
});

for (const group of $$(".marks")) group.addEventListener("keydown", event => {
  move(event, $$("button", group), {ArrowLeft: -1, ArrowRight: 1}[event.key]);
});

function move(event, all, step) { // move the tab stop of a group
  const next = all[all.indexOf(event.target) + step];
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

$("#play").addEventListener("click", toggle);
$("#position").addEventListener("input", event => {
  if (voice) play(Number(event.target.value)); else stop(Number(event.target.value));
});
$("#loop").addEventListener("click", () => {
  if (voice) Object.assign(voice, {offset: position(), began: context.currentTime});
  looping = !looping;
  $("#loop").setAttribute("aria-pressed", String(looping));
  if (voice) for (const {source} of voice.layers.values()) source.loop = looping;
});
$("#level").addEventListener("click", () => {
  levelled = !levelled;
  $("#level").setAttribute("aria-pressed", String(levelled));
  if (voice) play();
});

for (const button of $$("[data-copy]")) button.addEventListener("click", async () => {
  const from = $(`#${button.dataset.copy}`);
  try {
    await navigator.clipboard.writeText(from.textContent);
  } catch { // a browser may deny the clipboard to a page from disk: select the text instead
    getSelection().selectAllChildren(from);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

// The keyboard ------------------------------------------------------------------------------------

const held = new Map(); // pitch: {layers: [{source, gain}, ...]}
const notes = new Map(); // index: [{pitch, address}, ...]; without an address: the sound itself
let shift = 0; // octaves
const piano = $(".piano");

function nearest(index, pitch) {
  if (!notes.has(index)) notes.set(index, JSON.parse($(`#keys${index}`).textContent)
    .map(([own, address]) => ({pitch: own, address})));
  return notes.get(index).reduce((best, next) =>
    Math.abs(next.pitch - pitch) < Math.abs(best.pitch - pitch) ? next : best);
}

async function press(pitch, strength = 0.8) {
  release(pitch);
  const mine = {layers: []};
  held.set(pitch, mine);
  keyOf(pitch)?.classList.add("down");
  const made = await Promise.all(mixture().map(async ([index, share]) => {
    const note = nearest(index, pitch);
    if (note.address) note.buffer ??= audio().decodeAudioData(bytesOf(note.address).buffer);
    return {note, share: share * (note.address ? 0.7 : 2 * gainOf(index)),
            buffer: await (note.address ? note.buffer : bufferOf(index))};
  }));
  if (held.get(pitch) !== mine) return;
  for (const {note, share, buffer} of made) { // a note without a pitch keeps its own speed
    const playbackRate = note.pitch === null ? 1 : 2 ** ((pitch - note.pitch) / 12);
    const source = new AudioBufferSourceNode(audio(), {buffer, playbackRate});
    const gain = new GainNode(context, {gain: strength * share});
    source.connect(gain).connect(bus);
    source.start();
    mine.layers.push({source, gain});
  }
  document.body.dataset.note = `${pitch} from ${made[0].note.pitch}`;
}

function release(pitch) {
  keyOf(pitch)?.classList.remove("down");
  for (const {source, gain} of held.get(pitch)?.layers ?? []) {
    gain.gain.setTargetAtTime(0, context.currentTime, 0.06);
    source.stop(context.currentTime + 0.4);
  }
  held.delete(pitch);
}

const keyOf = pitch => $(`[data-pitch="${pitch}"]`);
const pitchOf = event => Number(event.target.closest("[data-pitch]")?.dataset.pitch);

if (piano) {
  piano.addEventListener("pointerdown", event => {
    const key = event.target.closest("[data-pitch]");
    if (!key) return;
    if (key.hasPointerCapture(event.pointerId)) key.releasePointerCapture(event.pointerId);
    press(pitchOf(event));
  });
  piano.addEventListener("pointerover", event => { // a glissando
    if (event.buttons & 1 && pitchOf(event) && !held.has(pitchOf(event))) press(pitchOf(event));
  });
  for (const name of ["pointerout", "pointerup", "pointercancel"])
    piano.addEventListener(name, event => release(pitchOf(event)));
  piano.addEventListener("keydown", event => {
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      if (!event.repeat) press(pitchOf(event));
    }
    move(event, $$("[data-pitch]", piano), {ArrowLeft: -1, ArrowRight: 1}[event.key]);
  });
  piano.addEventListener("keyup", event => {
    if (event.key === " " || event.key === "Enter") release(pitchOf(event));
  });
  for (const button of $$("[data-octave]"))
    button.addEventListener("click", () => octave(Number(button.dataset.octave)));
  $("#midi").addEventListener("click", async () => {
    if (!navigator.requestMIDIAccess)
      return say("This browser does not support Web MIDI, but Chrome, Edge and Firefox do.");
    try {
      const access = await navigator.requestMIDIAccess();
      listen(access);
      access.onstatechange = () => listen(access); // one that is plugged in later
    } catch (error) {
      say(`The browser refused access to MIDI (${error.name}): allow it in the site settings. If this `
        + "is not possible for a page from disk, run python -m http.server in the page's folder and open "
        + "localhost:8000.");
    }
  });
}

const say = words => { $("#midi-said").textContent = words; };

function listen(access) {
  const inputs = [...access.inputs.values()];
  for (const input of inputs) input.onmidimessage = ({data: [status, pitch, velocity]}) => {
    if ((status & 0xf0) === 0x90 && velocity) press(pitch, velocity / 127);
    else if ((status & 0xe0) === 0x80) release(pitch);
  };
  say(inputs.length ? `Listening to ${inputs.map(input => input.name).join(", ")}.`
    : "No MIDI keyboard is connected.");
}

function octave(step) {
  if (Math.abs(shift + step) > 2) return;
  [...held.keys()].forEach(release);
  shift += step;
  for (const key of $$("[data-pitch]", piano)) {
    key.dataset.pitch = Number(key.dataset.pitch) + 12 * step;
    key.setAttribute("aria-label", key.getAttribute("aria-label").replace(/\d+$/, n => Number(n) + step));
  }
  for (const button of $$("[data-octave]")) button.disabled = shift === 2 * Number(button.dataset.octave);
}

// Selected instruments, and the state in the address ----------------------------------------------

function listed() {
  for (const box of $$("[data-tick]")) box.checked = chosen.includes(box.dataset.tick);
  for (const line of $$("[data-command]")) // no line break within an --option
    line.replaceChildren(...line.dataset.command.replace("{}", chosen.join(",") || "1")
      .split(/(--\S+)/).map((part, index) => index % 2
        ? Object.assign(document.createElement("span"), {textContent: part}) : part));
  if (chosen.length) $("#selected").textContent = `Selected: ${chosen.join(", ")}.`;
}

for (const box of $$("[data-tick]")) box.addEventListener("change", () => {
  chosen = chosen.filter(name => name !== box.dataset.tick);
  if (box.checked) chosen.push(box.dataset.tick);
  listed();
  remember();
});

function remember() {
  const words = new URLSearchParams({sound: sounds[blend ? blend.first : home].name});
  if (blend) words.set("between", blend.share.toFixed(2));
  if (!voice && stoppedAt) words.set("at", stoppedAt.toFixed(2));
  if (chosen.length) words.set("select", chosen.join("-"));
  history.replaceState(null, "", `#${words}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const index = sounds.findIndex(sound => sound.name === words.get("sound"));
  chosen = words.get("select")?.split("-") ?? [];
  if ($("[data-tick]")) listed();
  select(index < 0 ? Number(firstCell(document).dataset.clip) : index);
  const steps = sliders.map(stepsOf).find(path => path.includes(index));
  if (steps && words.has("between"))
    between(steps, steps.indexOf(index) + Number(words.get("between")));
  stoppedAt = Number(words.get("at")) || 0;
  for (const cell of cellsOf(home)) if (cell.closest(".board")) stand(cell.closest(".board"), cell);
}

addEventListener("hashchange", () => { silence(); recall(); shown(); });

// Keys of the page --------------------------------------------------------------------------------

const letters = new Map($$("[data-letter]").map(key => [key.dataset.letter, key]));
const down = new Map(); // letter: the pitch that it plays, even if the octave changes meanwhile

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase(), places = [home, ...sounds[home].compare];
  if (key === "escape") stop();
  else if (key === "l") $("#loop").click();
  else if (places.length > 1 && Number(key) < places.length && key !== " ") exchange(places[Number(key)]);
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
$(".stage").hidden = false;
$("details").open = false;
recall();
shown();
})();
