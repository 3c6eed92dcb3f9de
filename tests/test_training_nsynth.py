"""The NSynth starter: its training code, its export and what ships."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from synths import InputError, nsynth
from synths.weights import checkpoints
from training import measures
from training.nsynth import broad, data, evaluate, unseen

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "data" / "nsynth_starter.npz"


def tone(f0, levels, samples=data.SAMPLES):
    t = np.arange(samples) / 16000
    return sum(a * np.sin(2 * np.pi * f0 * (k + 1) * t + k) for k, a in enumerate(levels))


def split(f0, levels):
    return data._harmonics(tone(f0, levels), np.full(data.SAMPLES, float(f0)))


# -- data ---------------------------------------------------------------------------------------
def test_partials_of_a_tone_are_its_harmonics():
    found = split(220, [0.5, 0.2, 0.05])
    middle = np.abs(found.amplitude[:, 4000:-4000]).mean(1)
    assert np.allclose(middle[:3], [0.5, 0.2, 0.05], atol=2e-3)
    assert np.abs(middle[3:]).max() < 1e-3
    assert np.sqrt(np.mean(found.rest[4000:-4000] ** 2)) < 1e-3


def test_morph_of_share_0_is_the_main_sound():
    lead = tone(220, [0.5, 0.2, 0.05])
    out = data.morph(split(220, [0.5, 0.2, 0.05]), split(330, [0.1, 0.4]), 0.0)
    assert np.abs(out - lead)[2000:-2000].max() < 5e-3


def test_morph_keeps_the_pitch_and_moves_the_levels():
    dull, bright = [0.5, 0.05, 0.005], [0.5, 0.4, 0.3, 0.2]
    out = data.morph(split(220, dull), split(220, bright), 0.5)
    f0, clarity, _ = measures.f0_track(out)
    assert np.abs(measures.cents(np.median(f0), 220)) < 5 and np.median(clarity) > 0.98
    found = np.abs(data._harmonics(out, np.full(out.size, 220.0)).amplitude[:, 4000:-4000]).mean(1)
    assert np.allclose(20 * np.log10(found[:3]),
                       10 * np.log10(np.array(dull)) + 10 * np.log10(bright[:3]), atol=1)


def test_shipped_partials_leave_little_residual():
    for name, (audio, found) in data.shipped_partials().items():
        part = slice(2000, 14000)
        left = np.sum(found.rest[part] ** 2) / np.sum(audio[part] ** 2)
        assert left < 0.05, name


def test_shipped_morph_led_by_metal_differs_from_its_sources():
    found = {name: partials for name, (_, partials) in data.shipped_partials().items()}
    sounds = evaluate.shipped_sounds(ROOT / "sounds")
    for other in ("bass", "flute", "meow"):
        mix = data.shipped_morph(("metal", other), found, 1 / 3)[:evaluate.FRAMES * evaluate.HOP]
        assert min(evaluate.distance(mix, sounds[name]) for name in ("metal", other)) > 5
        # The lowest mode lies between the bar's and the other's pitch, four fifths of the way.
        middle = slice(4000, 4000 + 8192)
        lowest, goal = 311.0, float(found[other].frequency[0, middle].mean())
        spectrum = np.abs(np.fft.rfft(mix[middle] * np.hanning(8192)))
        wanted = lowest * (goal / lowest) ** 0.8
        near = np.abs(np.fft.rfftfreq(8192, 1 / 16000) / wanted - 1) < 0.06
        assert spectrum[near].max() > 0.5 * spectrum.max()


def test_shipped_morphs_led_by_the_bass_differ_and_keep_its_pitch():
    found = {name: partials for name, (_, partials) in data.shipped_partials().items()}
    mixes = [data.shipped_morph(("bass", other), found, 1 / 3)[:evaluate.FRAMES * evaluate.HOP]
             for other in ("flute", "meow", "metal")]
    assert min(evaluate.distance(a, b) for a, b in combinations(mixes, 2)) > 4.9
    for mix in mixes:       # at the bass's pitch all the same
        f0, clarity, level = measures.f0_track(mix)
        assert abs(measures.cents(np.nanmedian(f0[level > 0.02]), 65.41)) < 30
        assert np.median(clarity[level > 0.02]) > 0.9


def test_shipped_morph_of_equal_shares_contains_both():
    found = {name: partials for name, (_, partials) in data.shipped_partials().items()}
    mix = data.shipped_morph(("bass", "flute"), found, 0.5)
    both = [np.abs(data.partials(mix, found[name].frequency[:1], 60.0)
                   .amplitude[0, 4000:9000]).mean() for name in ("bass", "flute")]
    assert min(both) > 0.1 * max(both)


def test_heard_pitch_follows_a_tone_and_not_noise():
    pitch = broad.heard_pitch(tone(220, [0.5, 0.2]))
    assert np.nanmax(np.abs(pitch - 57)) < 0.1 and np.isfinite(pitch).mean() > 0.9
    noise = np.random.default_rng(0).standard_normal(data.SAMPLES)
    assert np.isfinite(broad.heard_pitch(0.3 * noise)).mean() < 0.05


def test_plucked_string_is_pitched_and_trimmed_begins_with_it():
    time = np.arange(data.SAMPLES) / 16000
    string = broad.plucked(np.random.default_rng(3), time)
    assert np.isfinite(broad.heard_pitch(data.trimmed(string))).mean() > 0.8
    late = data.trimmed(np.concatenate([np.zeros(5000), string]))
    assert late.size == data.SAMPLES and np.abs(late).max() == pytest.approx(data.PEAK)
    assert np.argmax(np.abs(late) > 0.1) < 400
    assert data.trimmed(np.zeros(data.SAMPLES)) is None


# -- export -------------------------------------------------------------------------------------
def stacked(width, skip, layers, encoder_width, encoder_layers, channels):
    w, s, n, e, m, z = width, skip, layers, encoder_width, encoder_layers, channels
    return {"ae_startconv": (3, e), "ae_dilatedconv": (m, 3, e, e), "ae_res": (m, e, e),
            "ae_bottleneck": (e, z), "startconv": (3, w), "skip_start": (w, s),
            "dilatedconv": (n, 3, w, 2 * w), "cond_map": (n, z, 2 * w), "res": (n, w, w),
            "skip": (n, w, s), "out1": (s, s), "cond_map_out1": (z, s), "logits": (s, 256)}


def values(*size):
    out, rng = {}, np.random.default_rng(0)
    layered = ("ae_dilatedconv", "ae_res", "dilatedconv", "cond_map", "res", "skip")
    for name, shape in stacked(*size).items():
        out[f"{name}_w"] = rng.standard_normal(shape, np.float32)
        bias = (shape[0], shape[-1]) if name in layered else (shape[-1],)
        out[f"{name}_b"] = rng.standard_normal(bias, np.float32)
    return out


def test_official_names_and_shapes_are_magentas():
    tf = pytest.importorskip("tensorflow").compat.v1
    from training.nsynth import export
    h512 = pytest.importorskip("magenta.models.nsynth.wavenet.h512_bo16")
    wanted = {}
    with tf.Graph().as_default():
        h512.Config().build({"wav": tf.placeholder(tf.float32, [1, 5120])}, is_training=False)
        wanted = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    made = export.official(values(512, 256, 30, 128, 30, 16))
    assert {name: value.shape for name, value in made.items()} == wanted


def test_export_writes_what_tensorflow_reads(tmp_path):
    tf = pytest.importorskip("tensorflow")
    from training.nsynth import export

    state = {f"ema/{name}": value for name, value in values(4, 8, 2, 4, 2, 16).items()}
    np.savez(tmp_path / "state.npz", steps=7, **state)
    prefix = export.export([tmp_path / "state.npz"], tmp_path / "out", temperature=0.5)
    assert prefix.name == "model.ckpt-7"
    reader = tf.train.load_checkpoint(str(prefix))
    assert np.array_equal(reader.get_tensor("dilatedconv_2/W")[0], state["ema/dilatedconv_w"][1])
    assert np.array_equal(reader.get_tensor("startconv/W")[0, :, 0], state["ema/startconv_w"])
    assert np.array_equal(reader.get_tensor("logits/biases"), 2 * state["ema/logits_b"])
    state["steps"] = 9
    np.savez(tmp_path / "state.npz", **state)
    export.export([tmp_path / "state.npz"], tmp_path / "out")
    assert {p.name.split(".")[1] for p in (tmp_path / "out").iterdir()} == {"ckpt-9"}


def test_export_of_several_states_is_their_mean(tmp_path):
    tf = pytest.importorskip("tensorflow")
    from training.nsynth import export

    one = values(4, 8, 2, 4, 2, 16)
    for steps, factor in ((7, 1), (9, 2)):
        np.savez(tmp_path / f"{steps}.npz", steps=steps,
                 **{f"ema/{name}": factor * value for name, value in one.items()})
    prefix = export.export([tmp_path / "7.npz", tmp_path / "9.npz"], tmp_path / "out")
    assert prefix.name == "model.ckpt-9"
    written = tf.train.load_checkpoint(str(prefix)).get_tensor("logits/biases")
    np.testing.assert_allclose(written, 1.5 * one["logits_b"], rtol=1e-6)


def test_export_refuses_what_is_no_state(tmp_path):
    pytest.importorskip("tensorflow")
    from training.nsynth import export

    (tmp_path / "state.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a training state"):
        export.export([tmp_path / "state.npz"], tmp_path)
    with pytest.raises(InputError, match="above 0"):
        export.export([tmp_path / "state.npz"], tmp_path, temperature=0)


# -- evaluation ---------------------------------------------------------------------------------
def test_compare_separates_good_from_bad_reconstructions():
    samples = evaluate.FRAMES * evaluate.HOP
    source = tone(220, [0.4, 0.2, 0.1], samples).astype(np.float32)
    noise = 0.3 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    same, sharp = evaluate.compare(source, source), evaluate.compare(
        tone(233, [0.4, 0.2, 0.1], samples), source)
    bad = evaluate.compare(noise, source)
    assert same["within_50_cents"] == 1 and same["distance"] == 0 and same["hnr"] > 25
    assert sharp["within_50_cents"] == 0 and abs(sharp["median_cents"] - 99) < 3
    assert bad["within_50_cents"] < 0.2 and bad["hnr"] < 3 and bad["distance"] > 10


def test_evaluate_separates_a_perfect_from_a_silent_engine():
    sounds = evaluate.shipped_sounds(ROOT / "sounds")
    notes = {"x": tone(300, [0.3, 0.1], evaluate.FRAMES * evaluate.HOP).astype(np.float32)}

    def engine(hear):
        # An "encoding" that is simply the audio itself, 512 channels wide.
        return evaluate.Engine(encode=lambda a: a.reshape(len(a), -1, 512) * hear,
                               decode=lambda e, u: e.reshape(len(e), -1) + 1e-4 * u,
                               nll=lambda a, precision: np.ones(len(a)) + (precision == "int8"))

    rows = evaluate.evaluate(engine(1.0), sounds, notes, {}, seeds=(0, 1))["rows"]
    assert rows["sounds_within_50_cents_lowest"] > 0.98 and rows["notes_within_50_cents"] == 1
    assert abs(rows["sounds_hnr"] - rows["sounds_source_hnr"]) < 1
    assert rows["mixes_audible"] == 1 and rows["sounds_int8_gap_largest"] == 1
    assert 0.5 < rows["pitched_mixes_clear_frames"] <= 1 and rows["mixes_decoded"] == 24
    assert -40 < rows["sounds_noise_above_mu_law"] < 0  # the source itself has less than mu-law
    rows = evaluate.evaluate(engine(0.0), sounds, notes, {}, seeds=(0, 1))["rows"]
    assert rows["sounds_within_50_cents"] < 0.1 and rows["mixes_audible"] == 0
    assert rows["mixes_broken"] == 24


def test_evaluate_reports_the_worst_seed():
    sounds = evaluate.shipped_sounds(ROOT / "sounds")
    engine = evaluate.Engine(  # deaf at seed 1, whose first uniform is 0.51
        encode=lambda a: a.reshape(len(a), -1, 512),
        decode=lambda e, u: (e * (u[0, 0] > 0.6)).reshape(len(e), -1) + 1e-4 * u,
        nll=lambda a, precision: np.ones(len(a)))
    figures = evaluate.evaluate(engine, sounds, {}, {}, seeds=(0, 1))
    assert figures["sounds"]["flute"]["within_50_cents"][0] > 0.98
    assert figures["rows"]["sounds_within_50_cents"] < 0.1
    assert figures["rows"]["mixes_broken"] >= 12
    assert figures["rows"]["notes_within_50_cents"] is None


def echo(gain=1.0):
    """An engine whose encodings are the audio itself."""
    return evaluate.Engine(encode=lambda a: a.reshape(len(a), -1, 512),
                           decode=lambda e, uniforms: gain * e.reshape(len(e), -1),
                           nll=lambda a, precision: np.ones(len(a)))


def test_unseen_sounds_are_recognised_only_from_themselves():
    noise = np.random.default_rng(0).standard_normal(unseen.SAMPLES)
    sounds = {"winds/low": tone(150, [0.3, 0.2, 0.1], unseen.SAMPLES),
              "winds/high": tone(600, [0.1, 0.3], unseen.SAMPLES), "noises/hiss": 0.1 * noise}
    good = unseen.evaluate_sounds(echo(), sounds, seeds=(0,))
    assert good["rows"]["all"]["recognisable"] == 3
    assert good["rows"]["winds"]["keep_pitch"] == good["rows"]["winds"]["pitched"] == 2
    assert good["rows"]["noises"]["pitched"] == 0
    silent = unseen.evaluate_sounds(echo(1e-9), sounds, seeds=(0,))
    assert silent["rows"]["all"]["keep_pitch"] == 0
    assert "noises" in unseen.table(good)


def test_probe_reads_a_pitch_that_encodings_hold_linearly():
    rng = np.random.default_rng(0)
    pitch, mixing = rng.uniform(40, 80, 500), rng.standard_normal((8, 16))
    encodings = measures.circles(pitch) @ mixing + 3
    mapping = unseen.probe(encodings[:400], pitch[:400])
    assert np.abs(unseen.read_pitch(encodings[400:], mapping) - pitch[400:]).max() < 0.1


def test_loudness_of_a_semitone_and_of_another_sound():
    sound = measures.loudness(tone(220, [0.3, 0.2, 0.1]))
    assert measures.apart(sound, sound) == 0
    near, far = (measures.apart(sound, measures.loudness(tone(f0, [0.3, 0.2, 0.1])))
                 for f0 in (233, 700))
    assert 0 < near < 0.2 < far


# -- network (PyTorch) --------------------------------------------------------------------------
def small_data():
    audio = np.stack([tone(f, [0.4, 0.2]) for f in (100, 200, 300, 400)])
    audio = np.round(audio * 32767).astype(np.int16)
    track = np.full((4, data.SAMPLES // data.TRACK_HOP), 60, np.float32)
    return dict(audio=audio, split=np.array([0, 0, 1, 3]), track=track, morph_audio=audio[:2],
                morph_sources=np.array([[0, 1], [3, 0]]), morph_share=np.float32([0.3, 0.3]),
                morph_weight=np.float32([1, 2]), morph_noisy=np.array([False, True]))


@pytest.mark.torch
@pytest.mark.parametrize("exact, close", [(True, 1e-3), (False, 0.05)], ids=["exact", "any"])
def test_fused_passes_equal_pytorchs(exact, close):
    """To `close`, which leaves room for bfloat16 where the processor has it."""
    import torch

    from training.nsynth.fused import Fused
    from training.nsynth.model import Autoencoder, Size

    model = Autoencoder(Size(32, 64, 12, 32, 11))
    fused = Fused.build(model, threads=2, exact=exact)
    if fused is None:
        pytest.skip("no C compiler")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("_b"):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    codes = torch.randint(0, 256, (3, 2560), generator=generator)
    signal = (codes.float() - 128) / 128
    mixing = torch.tensor([[1.0, 0, 0], [0, 0.7, 0.3]])
    results = []
    for network in (model, fused):
        model.zero_grad()
        encoding = torch.einsum("bc,cfz->bfz", mixing, model.encode(signal, network.pooled))
        loss = network.loss(signal[:2], codes[:2], encoding)
        loss.backward()
        results.append((float(loss.detach()), {n: p.grad.clone() for n, p in
                                               model.named_parameters()}))
    (plain, wanted), (fast, found) = results
    assert abs(plain - fast) < close / 10
    assert abs(fused.nats(signal[:2], codes[:2], encoding.detach()) - plain) < close / 10
    assert abs(model.nats(signal[:2], codes[:2], encoding.detach()) - plain) < close / 10
    for name, grad in wanted.items():
        assert (grad - found[name]).norm() < close * grad.norm(), name
    uniforms = torch.rand(2, 2560, generator=generator)
    drawn = [network.sample_once(signal[:2], encoding.detach(), uniforms)
             for network in (model, fused)]
    assert (drawn[0] != drawn[1]).float().mean() < close


@pytest.mark.torch
def test_muon_update_equals_pytorchs():
    """PyTorch's takes one matrix at a time and computes in 16 bits."""
    import torch

    from training.nsynth.train import Optimiser

    generator = torch.Generator().manual_seed(0)
    before = torch.randn(3, 24, 40, generator=generator)
    grads = [torch.randn(3, 24, 40, generator=generator) for _ in range(2)]
    ours = before.clone().requires_grad_()
    theirs = [matrix.clone().requires_grad_() for matrix in before]
    muon = Optimiser({"res_w": ours, "res_b": torch.zeros(1, requires_grad=True)})
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0, momentum=0.95,
                                 adjust_lr_fn="match_rms_adamw")
    for grad in grads:
        ours.grad = grad
        muon.step(0.01)
        for matrix, part in zip(theirs, grad):
            matrix.grad = part
        reference.step()
    moved, wanted = ours.detach() - before, torch.stack(theirs).detach() - before
    assert (moved - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.torch
def test_grown_network_computes_the_same_and_tells_what_the_probe_reads():
    import torch

    from training.nsynth import grow
    from training.nsynth.model import Autoencoder, Size

    # Encoders of 8 and 12 channels; of the encodings' 32, the decoder needs 8 and the probe 8.
    old, new = Autoencoder(Size(8, 16, 11, 8, 3)), Autoencoder(Size(8, 16, 11, 12, 5), seed=1)
    probe = np.random.default_rng(0).standard_normal((16, 8))
    values, others = ({name: value.detach().numpy() for name, value in model.named_parameters()}
                      for model in (old, new))
    signal, history = torch.randn(4, 4096) * 0.3, torch.randn(4, 4096) * 0.3
    with torch.no_grad():
        wanted, read = old.encode(signal), new.encode(signal).numpy() @ probe
        found = np.concatenate([wanted.flatten(0, 1), new.encode(signal).flatten(0, 1)], axis=1)
        joined, lost = grow.joined(grow.widened(values), grow.side_by_side(values, others), probe,
                                   found)
        assert lost.max() < 1e-9
        grown = Autoencoder(Size(16, 32, 11, 20, 5))
        grown.load(joined)
        encodings = grown.encode(signal)
        assert torch.allclose(grown.logits(history, encodings), old.logits(history, wanted),
                              atol=1e-3)
    flat, read = encodings.flatten(0, 1).numpy(), read.reshape(-1, 8)
    mapping = np.linalg.lstsq(flat, read - read.mean(0), rcond=None)[0]
    np.testing.assert_allclose(flat @ mapping, read - read.mean(0), atol=1e-3)
    assert np.abs(flat.mean(0)).max() < 1e-3


@pytest.mark.torch
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_step_leaves_the_half_that_does_not_learn(tmp_path, half):
    from training.nsynth import train
    from training.nsynth.model import Size

    stage = replace(train.STAGES["near"], encoder=half == "encoder")
    trainer = train.Trainer(Size(8, 16, 10, 8, 3), small_data(), tmp_path)
    trainer.network, trainer.loss = trainer.model, trainer.model.loss
    before = [value.detach().clone() for value in trainer.values]
    crops = train.Crops(small_data(), stage, 1024, trainer.rng)
    assert np.isfinite(trainer.step(train.batch(crops, 2), 1e-2, stage))
    moved = {name.startswith("ae_") for name, now, old in
             zip(trainer.names, trainer.values, before) if not now.equal(old)}
    assert moved == {half == "encoder"}


@pytest.mark.torch
def test_mix_of_notes_keeps_the_pitch_of_the_first_and_the_books_weights(monkeypatch):
    from training.nsynth import train

    stage = train.Stage(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1e-3, 0.9, quietest=1.0)
    monkeypatch.setattr(train, "WOBBLES", 0)
    monkeypatch.setattr(train.Crops, "_start", lambda self: 1000.0)
    crops = train.Crops(small_data(), stage, 8192, np.random.default_rng(7))
    drawn = [crops() for _ in range(20)]
    assert {round(sum(crop.shares), 6) > 1 for crop in drawn} == {True, False}
    for crop in drawn:
        f0, _, _ = measures.f0_track(crop.audio)
        wanted, _, _ = measures.f0_track(crop.sources[0].audio)
        assert np.abs(measures.cents(np.median(f0), np.median(wanted))) < 20


@pytest.mark.torch
def test_takes_have_their_part_of_the_encoding_of_a_whole_sound():
    from training.nsynth import train

    encoded = []

    def encode(audio):      # each frame's samples are its encoding
        encoded.append(len(audio))
        return audio.reshape(len(audio), -1, train.HOP)

    stage = train.Stage(0.3, 0.0, 0.3, 0.4, 2.0, 0.5, 1e-3, 0.9)
    sounds = dict(small_data(), morph_sources=np.full((2, 2), 3))   # the one bundled sound
    crops = train.Takes(sounds, stage, 1024, np.random.default_rng(7), encode)
    for _ in range(60):
        drawn = crops()
        for source, encoding in zip(drawn.sources, drawn.encodings, strict=True):
            np.testing.assert_allclose(encoding.ravel(), source.audio, atol=2e-3)
    assert sorted(encoded) == [train.FEW] * 2 + [train.TAKES]   # each sound once


@pytest.mark.torch
def test_takes_begin_mixes_that_a_noisy_sound_leads_at_the_onset_more_often():
    from training.nsynth import train

    def encode(audio):      # each frame is its number
        frames = np.arange(audio.shape[1] // train.HOP, dtype=np.float32)
        return np.tile(frames[:, None], (len(audio), 1, 1))

    stage = train.Stage(0.0, 0.0, 0.0, 1.0, 2.0, 0.5, 1e-3, 0.9)
    onsets = []
    for noisy in (False, True):
        sounds = dict(small_data(), morph_sources=np.full((2, 2), 3), morph_noisy=[noisy] * 2)
        crops = train.Takes(sounds, stage, 1024, np.random.default_rng(7), encode)
        onsets.append(np.mean([crops().encodings[0][0, 0] == 0 for _ in range(300)]))
    assert onsets[0] == pytest.approx(train.ONSETS, abs=0.1)
    assert onsets[1] == pytest.approx(train.NOISY_ONSETS, abs=0.1)


@pytest.mark.torch
def test_decoder_is_causal():
    import torch

    from training.nsynth.model import Autoencoder, Size

    model = Autoencoder(Size(8, 16, 11, 8, 3))
    history, encoding = torch.randn(1, 1024) * 0.3, torch.randn(1, 2, 16)
    with torch.no_grad():
        before = model.logits(history, encoding)
        history[0, 600] += 0.5
        after = model.logits(history, encoding)
    assert torch.equal(before[0, :601], after[0, :601])
    assert not torch.equal(before[0, 601], after[0, 601])


@pytest.mark.torch
def test_train_interrupted_saves_its_state(tmp_path, monkeypatch, capsys):
    from training.nsynth import train

    def step(self, *_):
        if self.steps == 2:
            raise KeyboardInterrupt
        self.steps += 1
        return 1.0

    monkeypatch.setattr(train.Trainer, "step", step)
    np.savez(tmp_path / "data.npz", **small_data())
    assert train.main(["--minutes", "1", "--stage", "near", "--length", "1024", "--width", "8",
                       "--threads", "1", "--folder", str(tmp_path)]) == 130
    said = capsys.readouterr().err
    assert said.strip().count("\n") == 0 and "Stopped" in said
    with np.load(tmp_path / "state.npz") as state:
        assert state["steps"] == 2


@pytest.mark.torch
def test_training_learns_and_resumes_exactly(tmp_path):
    import torch

    from training.nsynth import train
    from training.nsynth.model import Size

    size = Size(8, 16, 10, 8, 3)
    stage = replace(train.STAGES["near"], ema=0.9)
    trainer = train.Trainer(size, small_data(), tmp_path)
    trainer.network = trainer.model
    crops = train.Crops(small_data(), stage, 1024, trainer.rng)
    losses = [trainer.step(train.batch(crops, 2), 5e-3, stage) for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    trainer.save()
    again = train.Trainer(size, small_data(), tmp_path, start=tmp_path / "state.npz")
    assert (again.steps, again.samples) == (40, 40 * 2048)
    again.network = again.model
    drawn = train.batch(crops, 2)
    for one in (trainer, again):
        one.rng = np.random.default_rng(3)
        torch.manual_seed(3)
        one.step(drawn, 1e-3, stage)
    for a, b in zip(trainer.values, again.values):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.torch
def test_trainer_same_seed_gives_the_same_probe(tmp_path):
    from training.nsynth import train
    from training.nsynth.model import Size

    heads = [train.Trainer(Size(8, 16, 10, 8, 3), small_data(), tmp_path, seed=seed).head.weight
             for seed in (1, 1, 2)]
    assert heads[0].equal(heads[1]) and not heads[0].equal(heads[2])


@pytest.mark.torch
def test_crop_resamples_in_tune():
    from training.nsynth.train import crop, positions

    audio = np.round(tone(400, [0.5]) * 32767).astype(np.int16)
    rate = 2 ** (1 / 12)
    moved = crop(audio, positions(100, rate, 8192))
    wanted = 0.5 * np.sin(2 * np.pi * 400 * (100 + np.arange(8192) * rate) / 16000)
    assert np.abs(moved - wanted)[20:-20].max() < 2e-3
    assert np.all(crop(audio, positions(-600, 1.0, 1024))[:599] == 0)


@pytest.mark.torch
def test_batches_drawn_by_processes_follow_their_seeds():
    from training.nsynth import train

    stage = train.Stage(0.5, 0, 0.5, 0, 1.0, 0.5, 1e-3, 0.9)
    crops = train.Crops(small_data(), stage, 1024, np.random.default_rng(0))
    batches = train.Batches(crops, 3, 8).drawn_by(2)
    drawn = [next(batches) for _ in range(4)]
    for process in (0, 1):
        crops.rng = np.random.default_rng([8, process])
        for found in drawn[process::2]:
            wanted = train.batch(crops, 3)
            for name in ("targets", "pasts", "signals", "mixing"):
                assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


@pytest.mark.torch
def test_crops_with_wobble_keep_the_true_pitch_in_the_encoding(monkeypatch):
    from training.nsynth import train

    stage = train.Stage(1.0, 0, 0, 0, 0.0, 0.0, 1e-3, 0.9)
    off, wandering = {}, {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(train, "WOBBLES", share)
        monkeypatch.setattr(train.Crops, "_start", lambda self: 1000.0)
        crops = train.Crops(small_data(), stage, 8192, np.random.default_rng(7))
        off[share], wandering[share] = [], []
        for _ in range(40):
            drawn = crops()
            target, (source,) = drawn.audio, drawn.sources
            assert drawn.past is target     # a note has no related sounds
            if np.ptp(source.pitch) > 0.01:     # a glide
                continue
            off[share].append(np.abs(target - source.audio).max())
            heard, true = measures.f0_track(target)[0], measures.f0_track(source.audio)[0]
            wandering[share].append(np.abs(measures.cents(heard, true)).max())
    assert np.max(off[0.0]) == 0 and np.mean(wandering[0.0]) == 0
    assert np.median(off[1.0]) > 0.01
    assert 10 < np.median(wandering[1.0]) < 300


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["shipped", "shipped_morphs"])
def test_deviated_history_crossfades_to_a_related_sound(monkeypatch, kind):
    from training.nsynth import train

    stage = train.Stage(*(float(kind == name) for name in (
        "notes", "mixes", "shipped", "shipped_morphs")), 0.0, 0.0, 1e-3, 0.9, quietest=1.0)
    monkeypatch.setattr(train, "WOBBLES", 0)
    monkeypatch.setattr(train, "DEVIATED", 0)
    crops = train.Crops(small_data(), stage, 4096, np.random.default_rng(7))
    assert all(crop.past is crop.audio for crop in (crops() for _ in range(20)))
    monkeypatch.setattr(train, "DEVIATED", 1)
    monkeypatch.setattr(train, "ITSELF", 0)
    deviated, towards = [], []
    for crop in [crops() for _ in range(40)]:
        off = np.abs(crop.past - crop.audio)
        deviated.append(off.max())
        if kind == "shipped_morphs":        # one of its two sounds, either
            between = [(off <= np.abs(source.audio - crop.audio) + 1e-9).all()
                       for source in crop.sources]
            assert any(between)
            if off.max() > 0.01:
                towards.append(between)
    assert kind == "shipped" or not np.all(towards, axis=0).any()
    assert np.mean(np.array(deviated) > 0.01) > 0.4
    drawn = train.batch(crops, 8)
    assert drawn.pasts.shape == drawn.targets.shape and (drawn.pasts != drawn.targets).any()
    monkeypatch.setattr(train, "ITSELF", 1)     # to a part of the sound, or to its hiss
    assert np.mean([np.abs(crop.past - crop.audio).max() > 0.01
                    for crop in (crops() for _ in range(40))]) > 0.4


@pytest.mark.torch
def test_part_of_a_sound_is_as_loud_and_causal():
    from training.nsynth import train

    stage = train.Stage(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1e-3, 0.9, quietest=1.0)

    def part(audio):
        return train.Crops(small_data(), stage, 4096, np.random.default_rng(3))._part(audio)

    time = np.arange(4096) / 16000
    # Two partials, 406.25 and 1015.625 Hz, that lie on the grid of the spectrum.
    bell = 0.3 * np.sin(2 * np.pi * 406.25 * time) + 0.3 * np.sin(2 * np.pi * 1015.625 * time)
    levels = np.abs(np.fft.rfft(part(bell)))[[104, 260]]
    assert levels.max() > 3 * levels.min()
    assert np.std(part(bell)) == pytest.approx(np.std(bell), rel=0.01)
    assert not part(np.zeros(4096)).any()
    assert not part(np.where(np.arange(4096) < 2048, 0, bell))[:2048].any()


@pytest.mark.torch
def test_hiss_of_a_mix_is_as_loud_and_has_no_pitch():
    from training.nsynth import train

    stage = train.Stage(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1e-3, 0.9, quietest=1.0)
    crops = train.Crops(small_data(), stage, 4096, np.random.default_rng(3))
    tone = 0.3 * np.sin(2 * np.pi * 406.25 * np.arange(4096) / 16000)
    hisses = [crops._hiss(tone) for _ in range(20)]
    assert np.mean([np.std(hiss) for hiss in hisses]) == pytest.approx(np.std(tone), rel=0.1)
    for hiss in hisses:
        power = np.abs(np.fft.rfft(hiss)) ** 2
        assert power[104 - 2:104 + 3].sum() < 0.5 * power.sum()


# -- what ships ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def starter():
    return checkpoints.find("nsynth_starter", "nsynth")


def test_shipped_checkpoint_equals_the_training_code(starter):
    golden = np.load(GOLDEN, allow_pickle=False)
    sounds = evaluate.shipped_sounds(ROOT / "sounds")
    assert list(golden["names"]) == list(sounds)
    samples = int(golden["samples"])
    audio = np.stack([sound[:samples] for sound in sounds.values()])
    found = nsynth.encode(audio, starter, samples)
    assert np.abs(found - golden["encodings"]).max() < 1e-4 * np.abs(golden["encodings"]).max()
    assert np.abs(nsynth.nll(audio, starter) - golden["nll"]).max() < 1e-4


def test_shipped_checkpoint_is_small_and_of_the_official_kind(starter):
    from synths.weights import checkpoints

    shapes = checkpoints.shapes(starter)
    assert shapes["ae_bottleneck/W"][-1] == 16 and shapes["logits/W"][-1] == 256
    assert sum(int(np.prod(shape)) for shape in shapes.values()) < 3_000_000
    assert (Path(starter).parent / "README.md").is_file()


def test_shipped_card_has_the_shipped_figures(starter):
    folder = Path(starter).parent
    figures = json.loads((folder / "figures.json").read_text("utf-8"))
    assert figures["checkpoint"] == Path(starter).name
    assert evaluate.tables(figures) in (folder / "README.md").read_text("utf-8")


def test_shipped_checkpoint_plays_the_shipped_sounds_and_a_mix(starter):
    sounds = evaluate.shipped_sounds(ROOT / "sounds")
    audio = np.stack([sounds["bass"], sounds["flute"]])
    encodings = nsynth.encode(audio, starter, audio.shape[1])
    encodings = np.concatenate([encodings, (2 * encodings[1:] + encodings[:1]) / 3])
    uniforms = np.random.default_rng(0).random((3, audio.shape[1]))
    decoded = nsynth.decode(encodings, starter, uniforms, precision="float32")
    for made, source in zip(decoded, audio):
        figures = evaluate.compare(made, source)
        assert figures["within_50_cents"] > 0.8 and figures["hnr"] > 10
        assert abs(figures["level"]) < 3 and figures["envelope_correlation"] > 0.7
    _, clarity, level = measures.f0_track(decoded[2])
    assert level.max() > 0.05 and np.median(clarity[level > 0.02]) > 0.8


def test_state_of_the_shipped_checkpoint_round_trips():
    from synths.weights import checkpoints
    from training.nsynth import names

    prefix = checkpoints.find("nsynth_starter", "nsynth")
    state = names.read_state(prefix)
    assert int(state["steps"]) == int(prefix.name.split("-")[-1])
    back = names.official({name[4:]: value for name, value in state.items()
                           if name.startswith("raw/")})
    shapes = checkpoints.shapes(prefix)
    assert set(back) == {name for name in shapes if name.endswith(("/W", "/biases"))}
    saved = checkpoints.read(prefix, sorted(back))
    for name, value in back.items():
        np.testing.assert_array_equal(value, saved[name])
