"""Carry out a worker's tasks: each makes about a dozen clips, and saves them in the bank.

A task is a small dict (names, shares, settings); sounds and encodings never pass through the
scheduler.  Each process loads a network once and keeps it.  A clip's samples depend only on its
record, not on its batch, its worker or the order of the work.
"""

from __future__ import annotations

import functools
import io
import secrets
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from synths import InputError, gansynth, nsynth
from synths.weights import checkpoints
from workshop.bank import manifest
from workshop.bank.store import Store, StoreError

# Clips per task.  Larger batches are hardly faster, and more work is lost if one fails.
CLIPS = 12
FADE = 0.005  # seconds at both ends of a clip, so that nothing clicks
PEAK = 10 ** (-1 / 20)  # of every clip: -1 dBFS
SILENCE = 1e-3  # of the peak (-60 dB): everything after the last louder sample is cut
SAMPLE_RATE = 16000  # Hz

MARK = ".bank"
PROBE = 2.0  # seconds

# A process decodes one batch at a time, because its network holds the state of the clips.
_LOCK = threading.Lock()


def run(task: dict) -> dict:
    """Carry out a task.

    The clips of an encoding task are sources, whose "file" is their digest.  The result has the
    finished records, the reasons of the failed ones by file, and why nothing more can be written,
    if that is so.
    """
    result: dict = {"name": task["name"], "done": [], "failed": {}, "stop": None}
    try:
        with _LOCK:
            if missing := lack(task):
                raise StoreError(f"A worker {missing}.")
            _WORK[task["kind"]](task, Store(task["bank"]), result)
    except StoreError as error:
        result["stop"] = str(error)
    except Exception as error:  # one of its clips cannot be made: find out which
        parts = singles(task)
        if len(parts) == 1:
            result["failed"][parts[0]["clips"][0]["file"]] = reason(error)
            return result
        for each in map(run, parts):
            result["done"].extend(each["done"])
            result["failed"].update(each["failed"])
            result["stop"] = result["stop"] or each["stop"]
    return result


def singles(task: dict) -> list[dict]:
    """Split a task into tasks of one clip each."""
    return [{**task, "name": f"{task['name']}-{place}", "clips": [clip]}
            for place, clip in enumerate(task["clips"])]


def mark(store: Store) -> str:
    """Return the bank's marker, by which a worker recognises its folder; create a missing one."""
    found = store.read(MARK)
    if not found:
        found = secrets.token_hex(16).encode()
        store.write(MARK, found)
    return found.decode("ascii", "replace")


def lack(task: dict) -> str | None:
    """Return what this worker lacks, in words; None if it has the weights and sees the bank.

    Files written to a folder with the same name on another disk would be lost.
    """
    prefix = task["checkpoint"]
    if not Path(f"{prefix}.index").is_file() or weights_digest(prefix) != task["weights"]:
        return (f"does not have the same weights at {prefix}: put the checkpoint there, at the "
                "same path on every machine")
    if "mark" in task and Store(task["bank"]).read(MARK) != task["mark"].encode():
        return f"does not see the bank {task['bank']}: choose an --output that all workers share"
    return None


def weights_digest(prefix: str | Path) -> str:
    """Return the digest of a checkpoint's index, which has the checksums of all tensors."""
    return manifest.digest(Path(f"{prefix}.index").read_bytes())


# Encoding ------------------------------------------------------------------------------------


def load_array(store: Store, name: str) -> np.ndarray:
    """Load an array that is stored in the bank."""
    data = store.read(name)
    if data is None:
        raise InputError(f"{name} is missing from the bank: run the same command again.")
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy raises many kinds of errors for damaged files
        raise InputError(f"{store.path(name)} is damaged: remove it, and run the same command "
                         "again.") from error


def is_encoding(store: Store, name: str) -> bool:
    """Return whether the bank has a complete encoding of finite numbers with this name."""
    try:
        array = load_array(store, name)
    except InputError:
        return False
    return array.ndim == 2 and array.size > 0 and bool(np.isfinite(array).all())


def array_bytes(array: np.ndarray) -> bytes:
    """Return the contents of an NPY file with the array."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _encode(task: dict, store: Store, result: dict) -> None:
    for digest in (source["file"] for source in task["clips"]):
        # One by one, so that an encoding does not depend on the number of sounds.
        audio = load_array(store, f"sources/{digest}.npy")
        encoding = nsynth.encode(audio, task["checkpoint"], audio.size,
                                 threads=task["threads"])[0]
        if not np.isfinite(encoding).all():
            raise InputError("its encoding contains values that are not finite")
        store.write(f"encodings/{digest}_{task['weights'][:12]}.npy", array_bytes(encoding))


# Decoding ------------------------------------------------------------------------------------


def _nsynth(task: dict, store: Store, result: dict) -> None:
    clips = task["clips"]
    encodings = np.array([np.sum(
        [np.float32(source["share"]) * load_array(store, source["encoding"])
         for source in clip["sources"]], axis=0, dtype=np.float32) for clip in clips])
    uniforms = nsynth.draw_uniforms(clips[0]["seed"], [clip["identity"] for clip in clips],
                                    encodings.shape[1] * nsynth.HOP_LENGTH)
    _save(task, store, result, nsynth.decode(
        encodings, task["checkpoint"], uniforms, clips[0]["precision"],
        temperature=clips[0]["temperature"], threads=task["threads"]))


@functools.lru_cache(maxsize=1)
def _model(prefix: str, threads: int):
    return gansynth.Model.load_from_path(Path(prefix), threads=threads)


def _gansynth(task: dict, store: Store, result: dict) -> None:
    model = _model(task["checkpoint"], task["threads"])
    _save(task, store, result, [model.generate_samples_from_z(
        model.generate_z(clip["instrument"], clip["seed"])[-1:], [clip["pitch"]])[0]
        for clip in task["clips"]])


# Sounds to files -----------------------------------------------------------------------------


def wav_bytes(audio: np.ndarray) -> bytes:
    """Return a 16-bit WAV file, normalised to `PEAK`, without the silence at its end."""
    import soundfile

    loudest = float(np.abs(audio).max(initial=0.0))
    if loudest:
        audible = np.flatnonzero(np.abs(audio) > SILENCE * loudest)[-1]
        audio = audio[:audible + SAMPLE_RATE // 20] * (PEAK / loudest)
        audio = nsynth.faded(audio, FADE)
    file = io.BytesIO()
    soundfile.write(file, np.rint(audio * 32767).astype(np.int16), SAMPLE_RATE, subtype="PCM_16",
                    format="WAV")
    return file.getvalue()


def cents_off(audio: np.ndarray, pitch: int) -> float | None:
    """Return how far a clip is from its pitch in cents; None if it has no steady pitch."""
    from companion.page.pitch import pitch_of

    found = pitch_of(audio)
    return None if found is None else round(100 * (found - pitch), 1)


def level(audio: np.ndarray) -> float:
    """Return the level of a sound: the RMS of its loudest half second, in dBFS."""
    span = min(SAMPLE_RATE // 2, audio.size)
    spans = np.asarray(audio[:audio.size // span * span], np.float64).reshape(-1, span)
    return round(10 * float(np.log10(max(np.square(spans).mean(axis=1).max(), 1e-12))), 2)


def _save(task: dict, store: Store, result: dict, sounds: Iterable[np.ndarray]) -> None:
    try:
        for clip, audio in zip(task["clips"], sounds):
            if not np.isfinite(audio).all():
                raise InputError("its samples are not finite numbers")
            data = wav_bytes(audio)
            store.write(clip["file"], data)
            loudest = float(np.abs(audio).max()) or 1.0
            result["done"].append(clip | {
                "digest": manifest.digest(data), "cents": cents_off(audio, clip["pitch"]),
                "level": level(audio * (PEAK / loudest))})
    finally:
        if result["done"]:
            store.write(f"{manifest.FOLDER}/{task['name']}.jsonl",
                        manifest.to_lines(result["done"]))


def reason(error: Exception) -> str:
    """Return an error as one line of text."""
    return " ".join((str(error) or type(error).__name__).split())


# Time estimate ------------------------------------------------------------------------------


def _probe(task: dict, _: Store, result: dict) -> None:
    """Measure the seconds of sound generated per second, over at least two seconds."""
    clip = task["clips"][0]
    if "instrument" in clip:
        model = _model(task["checkpoint"], task["threads"])
        z = model.generate_z(1, 0)
        made = model.audio_length / SAMPLE_RATE

        def once() -> None:
            np.asarray(model.generate_samples_from_z(z, [model.pitches[0]]))
    else:
        channels = checkpoints.shapes(task["checkpoint"])["ae_bottleneck/W"][3]
        made = CLIPS * nsynth.HOP_LENGTH / SAMPLE_RATE
        encodings = np.zeros([CLIPS, 1, channels], np.float32)
        uniforms = nsynth.draw_uniforms(0, CLIPS, nsynth.HOP_LENGTH)

        def once() -> None:
            nsynth.decode(encodings, task["checkpoint"], uniforms, clip["precision"],
                          threads=task["threads"])

    once()  # loads the weights
    began, turns = time.perf_counter(), 0
    while time.perf_counter() - began < PROBE:
        once()
        turns += 1
    result["done"].append(turns * made / (time.perf_counter() - began))


_WORK = {"encode": _encode, "nsynth": _nsynth, "gansynth": _gansynth, "probe": _probe}
