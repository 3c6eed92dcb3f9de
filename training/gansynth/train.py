"""Train the GANSynth starter: ``python -m training.gansynth.train --minutes M``.

This program renders the data if it is missing, trains for M minutes on a CUDA GPU or the CPU, and
saves its state in ``training/runs/gansynth/state.npz``, from which a later run resumes. If
TensorFlow is installed, it exports a TensorFlow checkpoint. Once the data file exists, only
PyTorch, NumPy, SciPy and google-crc32c are needed.

There is no adversary. The generator learns by regression how each z should sound: like one of 24
instruments, or a mixture of neighbours (``data.shares``), with its own brightness and attack
(``data.shades``). For each pitch, the phase always advances in the same way. There are three
stages, and each starts from the weights of the one before:

``steady``   one row per note, kernels along frequency alone: pitch, timbre and phase, at many times
             the notes per second.
``coarse``   the first blocks in full, single rows from there on: how a note changes in time.
``fine``     the whole network, in windows: attack, release, vibrato, and the joins between rows.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from synths import InputError
from training import STOPPED, command, make_parser, report
from training.gansynth import data, spectra
from training.gansynth.model import BLOCKS, Generator
from training.muon import Muon

RUN = Path("training/runs/gansynth")
STAGES = ("steady", "coarse", "fine")
# Of a fresh run's time; learning rate of Muon at the start of the stage (Adam's is half of it).
TIME_SHARES = {"steady": 0.2, "coarse": 0.3, "fine": 0.5}
RATES = {"steady": 0.02, "coarse": 0.015, "fine": 0.008}
SPLIT = 3               # blocks in full in the coarse stage
COARSE_ROWS = 16        # rows that block SPLIT works on; each stands for 8 of the output
WINDOW = 16             # rows of the output in a window of the fine stage
EMA = 0.99
_INSTRUMENTS = len(data.INSTRUMENTS)
_PITCHES = len(data.PITCHES)


class Timbre(NamedTuple):
    """What is asked of notes: shares ``[notes, 24]``, weight in the loss ``[notes, 1, 1]``,
    shades ``[notes, 2]``, vibrato in cents and tremolo in dB ``[notes]``.
    """

    weights: torch.Tensor
    usable: torch.Tensor
    shades: torch.Tensor
    vibrato: torch.Tensor
    tremolo: torch.Tensor


class Targets:
    """The targets, drawn on the device as they are needed.

    Held-out pairs are not in it: a mixture that asks for one at its pitch gets weight 0 in the
    loss if the share is over 5 %, and the other instruments instead if it is less.
    """

    def __init__(self, levels: list[np.ndarray], device: torch.device) -> None:
        most = max(note.shape[1] for note in levels)
        padded = np.full((_PITCHES, _INSTRUMENTS, most, spectra.ROWS), data.LEVEL_FLOOR,
                         np.float32)
        lobes = np.zeros((_PITCHES, most, spectra.BANDS), np.float32)
        for index, (note, pitch) in enumerate(zip(levels, data.PITCHES)):
            padded[index, :, :note.shape[1]] = note
            lobes[index, :note.shape[1]] = data.lobes(pitch) * (spectra.FFT / 4) ** 2
        self.held = torch.zeros(_PITCHES, _INSTRUMENTS, dtype=torch.bool, device=device)
        for number, pitch in data.HELD_OUT:
            self.held[pitch - data.PITCHES[0], number] = True
            padded[pitch - data.PITCHES[0], number] = data.LEVEL_FLOOR
        self.device = device
        self.levels = torch.tensor(padded, device=device)
        self.lobes = torch.tensor(lobes, device=device)
        self.frequency = torch.tensor(
            np.stack([data.steady_frequency(pitch) for pitch in data.PITCHES]),
            dtype=torch.float32, device=device) * spectra.PHASE_SCALE
        self.vibrato = torch.tensor(
            np.stack([data.vibrato_frequency(pitch) for pitch in data.PITCHES]),
            dtype=torch.float32, device=device) * spectra.PHASE_SCALE
        # A hertz is more cents to a low partial.
        bands = spectra.band_frequencies() + 50.0
        self.finer = torch.tensor(1.0 + 300.0 / bands, dtype=torch.float32, device=device)
        self.initial = torch.tensor(data.initial_phase(), dtype=torch.float32,
                                    device=device) * spectra.PHASE_SCALE
        # What the loudest instrument has anywhere: where any timbre may differ from another.
        loudest = self.levels.amax(dim=1)
        self.ceiling = torch.stack([self.draw(loudest[index:index + 1].transpose(1, 2),
                                              torch.tensor([index], device=device))[0]
                                    for index in range(_PITCHES)])
        self.ceiling_ever = self.ceiling.amax(dim=1)
        self.peak = self.ceiling_ever.amax(dim=1)

    def pooled(self, first: int, end: int, parts: int) -> torch.Tensor:
        """Average levels over equal stretches of rows: ``[61, 24, harmonics, parts]``."""
        levels = self.levels[..., first:end].clamp(min=-90.0)
        return levels.unflatten(3, (parts, -1)).mean(dim=4)

    def draw(self, levels: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
        """Draw ``levels [notes, rows, harmonics]`` as log mel power ``[notes, rows, 1024]``."""
        power = torch.pow(10.0, levels * 0.1) @ self.lobes[pitch]
        return torch.log(power + 1e-6).clamp(min=data.LOG_FLOOR)

    def timbre(self, z: np.ndarray, pitch: torch.Tensor) -> Timbre:
        """Return what ``z [notes, 256]`` asks for at these pitches (counted from 0)."""
        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=self.device)
        weights = tensor(data.shares(z))
        held = self.held[pitch]
        usable = ((weights * held).sum(dim=1) < 0.05).float()
        weights = weights.masked_fill(held, 0.0)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return Timbre(weights, usable.view(-1, 1, 1), tensor(data.shades(z)),
                      *(weights @ tensor(part) for part in data.depths()))

    def mixed(self, levels: torch.Tensor, timbre: Timbre, pitch: torch.Tensor,
              rows: torch.Tensor) -> torch.Tensor:
        """Mix and shade levels ``[61, 24, harmonics, rows]``: ``[notes, rows, harmonics]``.

        ``rows`` are the rows' places in the spectrogram, for all notes.
        """
        result = torch.einsum("nk,nkhr->nrh", timbre.weights, levels[pitch])
        return result + shading(timbre.shades, rows, result.shape[2])


def shading(shades: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``data.shading`` of many notes, ``[notes, rows, harmonics]``."""
    brightness, swell = (part[:, None, None] for part in shades.unbind(1))
    octaves = torch.log2(torch.arange(1, count + 1, device=shades.device))
    slope = brightness * (octaves - 2.0 * (brightness > 0))
    rows = rows[None, :, None]
    return slope - swell * (1.0 - rows / data.SWELL_ROWS).clamp(min=0.0)


class Trainer:
    """The generator, what helps to train it, and one step of each stage."""

    def __init__(self, targets: Targets, fmap_base: int, fmap_max: int, seed: int,
                 compiled: bool) -> None:
        torch.manual_seed(seed)
        self.targets, self.device = targets, targets.device
        self.rng = np.random.default_rng(seed)
        self.axes = data.directions()
        self.generator = Generator(self.axes, fmap_base, fmap_max).to(
            self.device, memory_format=torch.channels_last)
        widths = self.generator.widths
        if compiled:
            fused = torch.compile(self.generator.activate, dynamic=False)
            # One graph for each number of channels, whatever the size of the image.
            torch._dynamo.config.recompile_limit = 64

            def activate(x: torch.Tensor) -> torch.Tensor:
                for axis in (0, 2, 3):
                    torch._dynamo.maybe_mark_dynamic(x, axis)
                return fused(x)
            self.generator.activate = activate
        # Heads for training alone: the last features should hold the initial phase, and
        # the features before the split the smooth envelope of the spectrum.
        self.phase_head = nn.Conv2d(widths[-1], 1, 1).to(self.device)
        self.envelope_head = nn.Conv2d(widths[SPLIT - 1], 1, 1).to(self.device)
        # And the features of the later blocks the vibrato: its cosine and sine, and the tremolo's.
        self.clock_heads = nn.ModuleList([nn.Conv2d(width, 4, 1) for width in widths[SPLIT:]]
                                         ).to(self.device)
        kernels = [layer.weight for layer in (*self.generator.first, *self.generator.second)]
        special = {id(p) for p in (*kernels, self.generator.pitch, self.generator.timbre)}
        # Rates are equalised, weights near 1: updates have unit root mean square.
        self.muon = Muon({str(i): kernel for i, kernel in enumerate(kernels)},
                         lambda update: update.flatten(1)[None], scale=1.0)
        self.adam = torch.optim.Adam([
            {"params": [p for p in self.generator.parameters() if id(p) not in special],
             "times": 1.0},
            {"params": [*self.phase_head.parameters()], "times": 2.0},
            {"params": [*self.envelope_head.parameters(), *self.clock_heads.parameters()],
             "times": 1.0},
            {"params": [self.generator.pitch], "times": 2.0},
            {"params": [self.generator.timbre], "times": 0.4}], lr=1e-2, betas=(0.9, 0.98))
        self.average = {name: value.detach().clone()
                        for name, value in self.generator.named_parameters()}
        self.averaged = self.steps = self.notes = 0
        self.seconds, self.stage, self.opened = 0.0, "steady", 0
        self.steady_levels = targets.pooled(8, 64, 1)
        self.steady_ceiling = targets.ceiling[:, 8:64].mean(dim=1, keepdim=True)
        self.coarse_levels = targets.pooled(0, spectra.ROWS, COARSE_ROWS)
        # The onset's silence would drag the first stretch down.
        self.coarse_levels[..., :1] = targets.pooled(4, 8, 1)
        self.coarse_ceiling = targets.ceiling.unflatten(1, (COARSE_ROWS, -1)).amax(dim=2)
        part = spectra.ROWS / COARSE_ROWS
        self.coarse_rows = (torch.arange(COARSE_ROWS, device=self.device) + 0.5) * part - 0.5
        self.coarse_rows[0] = 5.5
        self.envelopes, self.places = self._envelopes()

    def _envelopes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Levels between the harmonics too: ``[61, 24, 8, 64]``, about 0..1; and the matrices
        from harmonics to places, ``[61, harmonics, 64]``.
        """
        rows, places = 2 ** SPLIT, 16 * 2 ** (SPLIT - 1)
        _, centres = data.bands()
        centres = centres.reshape(places, -1).mean(axis=1)
        result = []
        matrices = np.zeros((_PITCHES, self.coarse_levels.shape[2], places), np.float32)
        for index, pitch in enumerate(data.PITCHES):
            count = data.harmonics(pitch)
            place = np.clip(centres / data.frequency(pitch), 1, count) - 1
            low = np.minimum(np.floor(place).astype(int), count - 1)
            high, part = np.minimum(low + 1, count - 1), place - low
            matrix = np.zeros((count, places))
            np.add.at(matrix, (low, np.arange(places)), 1 - part)
            np.add.at(matrix, (high, np.arange(places)), part)
            matrices[index, :count] = matrix
            levels = self.coarse_levels[index, :, :count].transpose(1, 2)
            envelope = levels @ torch.tensor(matrix, dtype=torch.float32, device=self.device)
            result.append(envelope.unflatten(1, (rows, -1)).mean(dim=2))
        return torch.stack(result) / 50.0 + 1.0, torch.tensor(matrices, device=self.device)

    def enter(self, stage: str) -> None:
        """Bring weights that a former stage left to what the stage needs."""
        generator, order = self.generator, STAGES.index(stage)
        with torch.no_grad():
            for module in (*generator.first, *generator.second):
                if self.opened == 0:
                    module.weight[:, :, 0] = module.weight[:, :, 2] = 0.0
            if order >= 1 and self.opened == 0:
                # A little of each neighbouring row, and two start rows that differ a little.
                for module in (*generator.first[:SPLIT], *generator.second[:SPLIT - 1]):
                    for side in (0, 2):
                        module.weight[:, :, side] = 0.1 * torch.randn_like(
                            module.weight[:, :, side])
                first = generator.widths[0]
                for parameter, spread in ((generator.pitch, 0.2), (generator.timbre, 0.1)):
                    image = parameter.view(len(parameter), first, 2, -1)
                    noise = torch.randn(len(image) if spread < 0.2 else 1, first, 1,
                                        device=self.device)
                    image[:, :, 1] = image[:, :, 0] + spread * noise
            for name, parameter in generator.named_parameters():
                self.average[name].copy_(parameter)
        self.opened, self.stage, self.averaged = max(self.opened, order), stage, 0

    def _batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor, Timbre]:
        count = min(count, _PITCHES)
        pitch = torch.tensor(self.rng.permutation(_PITCHES)[:count], device=self.device)
        z = self.rng.standard_normal((count, self.axes.shape[1]))
        return (torch.tensor(z, dtype=torch.float32, device=self.device), pitch,
                self.targets.timbre(z, pitch))

    def _loss(self, output: torch.Tensor, wanted: torch.Tensor, ceiling: torch.Tensor,
              pitch: torch.Tensor, usable: torch.Tensor, onset: bool = False,
              vibrato: torch.Tensor | None = None) -> tuple[torch.Tensor, list[float]]:
        """Weighted distances of magnitude and phase; figures in dB and half turns.

        Magnitude counts where this note is strong, and where another timbre at this pitch would
        be: a silence that another fills is heard. Phase counts where there is energy at some
        time, since every row adds to the phase of all later ones.
        """
        targets = self.targets
        top = wanted.amax(dim=(1, 2), keepdim=True)
        peak = targets.peak[pitch].view(-1, 1, 1)
        ever = targets.ceiling_ever[pitch][:, None]
        strong = (0.1 + 0.4 * torch.exp(0.2 * (wanted - top))
                  + 0.4 * torch.exp(0.15 * (ceiling - peak)).clamp(max=1.0)
                  + 0.3 * (ever > peak - data.HEARD)) * usable
        turning = (torch.exp(0.25 * (torch.maximum(wanted, ever - 14.0) - top).clamp(max=0.0))
                   + 0.3 * torch.exp(0.25 * (ever - peak))) * usable
        phase = targets.frequency[pitch][:, None].expand(-1, wanted.shape[1], -1)
        if vibrato is not None:
            phase = phase + vibrato[:, :, None] * targets.vibrato[pitch][:, None]
        turning = turning * targets.finer
        if onset:
            phase = torch.cat([targets.initial.expand(len(pitch), 1, -1), phase[:, 1:]], dim=1)
            times = torch.ones_like(turning)
            times[:, 0], times[:, 0, 850:] = 6.0, 0.0
            turning = turning * times
        magnitude_error = output[:, 0] - (wanted * spectra.MAGNITUDE_SCALE
                                          + spectra.MAGNITUDE_SHIFT)
        phase_error = output[:, 1] - phase
        square = magnitude_error.square()
        magnitude_loss = ((torch.sqrt(square + 1e-3) + 30.0 * square) * strong).sum() / strong.sum()
        square = phase_error.square()
        # The square reaches the alternating phases of the first row, where the mere distance
        # would be content with their median.
        rounded = torch.sqrt(square + 1e-4) + (2.0 * square if onset else 0.0)
        phase_loss = (rounded * turning).sum() / turning.sum()
        with torch.no_grad():
            decibels = 10.0 / math.log(10.0) / spectra.MAGNITUDE_SCALE
            error, distance = magnitude_error.abs(), phase_error.abs() / spectra.PHASE_SCALE
            body = slice(1, None) if onset else slice(None)
            figures = [((error * strong).sum() / strong.sum()).item() * decibels,
                       ((error * turning).sum() / turning.sum()).item() * decibels,
                       ((distance * turning)[:, body].sum() / turning[:, body].sum()).item(),
                       ((distance * turning)[:, 0].sum() / turning[:, 0].sum()).item()
                       if onset else math.nan]
        return 5.0 * magnitude_loss + 2.0 * phase_loss, figures

    def _phase_loss(self, features: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
        error = self.phase_head(features)[:, 0, :, :850] - self.targets.initial[:850]
        weight = torch.exp(0.25 * (self.targets.ceiling_ever[pitch][:, None, :850]
                                   - self.targets.peak[pitch].view(-1, 1, 1)))
        return 2.0 * (error.square() * weight).sum() / (weight.sum() * error.shape[1])

    def steady(self, count: int) -> tuple[torch.Tensor, list[float]]:
        """One row per note."""
        z, pitch, timbre = self._batch(count)
        wanted = self.targets.draw(self.targets.mixed(
            self.steady_levels, timbre, pitch, torch.full((1,), 36.0, device=self.device)), pitch)
        output, features, _ = self.generator.steady_rows(
            z, pitch, 0, torch.zeros(len(z), 1, dtype=torch.long, device=self.device))
        loss, figures = self._loss(output, wanted, self.steady_ceiling[pitch], pitch,
                                   timbre.usable)
        return loss + self._phase_loss(features, pitch), figures

    def coarse(self, count: int, rows: int = 3) -> tuple[torch.Tensor, list[float]]:
        """A few of sixteen rows of every note, one of them near the onset."""
        z, pitch, timbre = self._batch(count)
        chosen = np.stack([self.rng.permutation(COARSE_ROWS)[:rows] for _ in range(len(z))])
        chosen[:, 0] = self.rng.integers(0, 3, len(z))
        chosen = torch.tensor(chosen, device=self.device)
        levels = self.targets.mixed(self.coarse_levels, timbre, pitch, self.coarse_rows)
        notes = torch.arange(len(z), device=self.device)[:, None]
        wanted = self.targets.draw(levels[notes, chosen], pitch)
        ceiling = self.coarse_ceiling[pitch][notes, chosen]
        output, features, before = self.generator.steady_rows(z, pitch, SPLIT, chosen)
        loss, figures = self._loss(output, wanted, ceiling, pitch, timbre.usable)
        envelope = torch.einsum("nk,nkrf->nrf", timbre.weights, self.envelopes[pitch])
        shades = shading(timbre.shades, self.coarse_rows, self.places.shape[1])
        shades = (shades @ self.places[pitch]).unflatten(1, (2 ** SPLIT, -1)).mean(dim=2)
        envelope = envelope + shades / 50.0
        weight = (0.15 + torch.exp(2.0 * (envelope - envelope.amax(dim=(1, 2), keepdim=True)))
                  ) * timbre.usable
        error = self.envelope_head(before)[:, 0] - envelope
        envelope_loss = (error.square() * weight).sum() / weight.sum()
        return loss + self._phase_loss(features, pitch) + 10.0 * envelope_loss, figures

    def fine(self, count: int) -> tuple[torch.Tensor, list[float]]:
        """A window of every note: the onset often, the release sometimes, or anywhere."""
        z, pitch, timbre = self._batch(count)
        draw = self.rng.random()
        if draw < 0.35:
            first = 0
        elif draw < 0.5:
            first = data.RELEASE_ROW - WINDOW // 2 + int(self.rng.integers(-4, 5))
        else:
            first = int(self.rng.integers(0, spectra.ROWS - WINDOW + 1))
        end = first + WINDOW
        rows = torch.arange(first, end, device=self.device)
        wave = torch.sin(2.0 * math.pi * data.VIBRATO_TURN * rows)
        levels = self.targets.mixed(self.targets.levels[..., first:end], timbre, pitch, rows)
        wanted = self.targets.draw(
            levels + (timbre.tremolo[:, None] * wave)[:, :, None], pitch)
        features: list[tuple[int, torch.Tensor]] = []
        output = self.generator(z, pitch, (first, end), features)
        loss, figures = self._loss(output, wanted, self.targets.ceiling[pitch, first:end], pitch,
                                   timbre.usable, first == 0,
                                   timbre.vibrato[:, None] / data.DEEPEST * wave)
        return loss + self._clock_loss(features, first, end, timbre), figures

    def _clock_loss(self, features: list[tuple[int, torch.Tensor]], first: int, end: int,
                    timbre: Timbre) -> torch.Tensor:
        """How badly the blocks from ``SPLIT`` on know where the vibrato is, and how deep.

        A kernel of three rows sees no vibrato coming: every block must hand it on.
        """
        depth = torch.stack([timbre.vibrato / 15.0, timbre.tremolo / 2.0], dim=1)
        loss = 0.0
        for index, head in enumerate(self.clock_heads, SPLIT):
            low, x = features[index]
            size = spectra.ROWS // (2 * 2 ** index)
            begin, stop = first // size, -(-end // size)
            rows = (torch.arange(begin, stop, device=self.device) + 0.5) * size - 0.5
            angle = 2.0 * math.pi * data.VIBRATO_TURN * rows
            wave = torch.stack([torch.cos(angle), torch.sin(angle)])
            wanted = (depth[:, :, None, None] * wave).flatten(1, 2)
            said = head(x[:, :, begin - low:stop - low])
            error = (said - wanted[:, :, :, None]).square().mean(dim=(1, 2, 3))
            loss = loss + (error * (1.0 + 2.0 * depth[:, 0]) * timbre.usable.view(-1)).mean()
        return 2.0 * loss

    def step(self, rate: float, count: int) -> list[float]:
        """Take one step of the current stage and return its figures."""
        loss, figures = getattr(self, self.stage)(count)
        loss.backward()
        split = {"steady": 0, "coarse": SPLIT, "fine": BLOCKS}[self.stage]
        steady = [block >= split for block in range(BLOCKS)]
        for group in self.adam.param_groups:
            group["lr"] = 0.5 * rate * group["times"]
        self.adam.step()
        narrow = {str(i) for i, centre in enumerate(steady + steady[1:]) if centre}
        self.muon.step(rate, lambda name, kernel: kernel[:, :, 1] if name in narrow else kernel)
        for module in (self.generator, self.phase_head, self.envelope_head, self.clock_heads):
            module.zero_grad(set_to_none=True)
        self.averaged += 1
        keep = min(EMA, self.averaged / (10.0 + self.averaged))
        with torch.no_grad():
            for name, parameter in self.generator.named_parameters():
                self.average[name].lerp_(parameter, 1.0 - keep)
        self.steps, self.notes = self.steps + 1, self.notes + min(count, _PITCHES)
        return figures

    @torch.no_grad()
    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.generator.named_parameters():
            parameter.copy_(values[name])

    # The state, on disk ------------------------------------------------------------------

    def save(self, path: Path, golden: bool = False) -> None:
        """Write everything needed to go on, as arrays; ``golden``: some outputs, too."""
        arrays = {"stage": np.array(self.stage), "opened": np.array(self.opened),
                  "steps": np.array(self.steps), "notes": np.array(self.notes),
                  "seconds": np.array(self.seconds),
                  "fmap": np.array([self.generator.fmap_base, self.generator.fmap_max]),
                  "directions": self.axes}
        for name, value in self.generator.named_parameters():
            arrays[f"weights/{name}"] = value.detach().cpu().numpy()
            arrays[f"average/{name}"] = self.average[name].cpu().numpy()
        # The dense start layer, so that the export needs no PyTorch.
        own = {name: value.detach().clone() for name, value in self.generator.named_parameters()}
        self._put(self.average)
        with torch.no_grad():
            arrays["start_kernel"] = self.generator.start_kernel().cpu().numpy()
            if golden:
                # What this code makes of some notes, for a test of the exported checkpoint.
                z = np.random.default_rng(5).standard_normal((3, 256)).astype(np.float32)
                pitch, rows = np.array([24, 61, 84]), np.array([0, 1, 4, 20, 70, 127])
                output = self.generator(
                    torch.tensor(z, device=self.device),
                    torch.tensor(pitch - data.PITCHES[0], device=self.device))
                arrays.update({"golden/z": z, "golden/pitches": pitch, "golden/rows": rows,
                               "golden/output": output.permute(0, 2, 3, 1)[:, rows].cpu().numpy()})
        self._put(own)
        for head in ("phase_head", "envelope_head", "clock_heads"):
            for name, value in getattr(self, head).named_parameters():
                arrays[f"{head}/{name}"] = value.detach().cpu().numpy()
        for name, moment in self.muon.moments.items():
            arrays[f"moment/{name}"] = moment.cpu().numpy()
        for index, state in self.adam.state_dict()["state"].items():
            for kind, value in state.items():
                arrays[f"adam/{index}/{kind}"] = value.cpu().numpy()
        report.write_arrays(path, **arrays)

    @torch.no_grad()
    def start(self, weights: dict[str, np.ndarray]) -> None:
        """Begin from exported weights (``export.read``), in the last stage.

        They keep what they know about pitch, phase and time. They also keep their response to the
        current latent directions. Their response to other directions is trained from scratch.
        """
        kernel = weights["start_kernel"].reshape(len(weights["start_kernel"]), -1)
        kernel = kernel * self.generator.start_scale
        latents, pitch = kernel[:self.axes.shape[1]], kernel[self.axes.shape[1]:]
        timbre = self.axes @ latents
        known = np.square(timbre).sum() > 0.99 * np.square(latents).sum()
        for name, parameter in self.generator.named_parameters():
            if name == "pitch":
                value = pitch
            elif name == "timbre":
                value = timbre if known else parameter
            else:
                value = weights[name]
            if tuple(value.shape) != tuple(parameter.shape):
                raise InputError(f"The weights to start from have other widths: {name} has shape "
                                 f"{tuple(value.shape)}, not {tuple(parameter.shape)}.")
            parameter.copy_(torch.as_tensor(value, dtype=torch.float32, device=self.device))
            self.average[name].copy_(parameter)
        self.stage, self.opened = STAGES[-1], len(STAGES) - 1

    def restore(self, path: Path) -> None:
        """Go on from a saved state of the same widths."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        fmap = [self.generator.fmap_base, self.generator.fmap_max]
        if arrays["fmap"].tolist() != fmap:
            raise InputError(f"{path} has the widths {arrays['fmap'].tolist()}, not {fmap}: use "
                             "the same widths, or another folder to start from scratch.")

        def tensor(name: str) -> torch.Tensor:
            return torch.tensor(arrays[name], device=self.device)
        with torch.no_grad():
            for name, value in self.generator.named_parameters():
                value.copy_(tensor(f"weights/{name}"))
                self.average[name].copy_(tensor(f"average/{name}"))
            for head in ("phase_head", "envelope_head", "clock_heads"):
                for name, value in getattr(self, head).named_parameters():
                    value.copy_(tensor(f"{head}/{name}"))
            for name, moment in self.muon.moments.items():
                moment.copy_(tensor(f"moment/{name}"))
        state = self.adam.state_dict()
        for name in arrays:
            if name.startswith("adam/"):
                _, index, kind = name.split("/")
                state["state"].setdefault(int(index), {})[kind] = tensor(name)
        self.adam.load_state_dict(state)
        self.stage, self.opened = str(arrays["stage"]), int(arrays["opened"])
        self.steps, self.notes = int(arrays["steps"]), int(arrays["notes"])
        self.seconds, self.averaged = float(arrays["seconds"]), 1000


def run(trainer: Trainer, stage: str, minutes: float, count: int, rate: float,
        state: Path) -> None:
    """Train one stage, with a warm-up and a cosine to a twentieth of the rate."""
    if stage != trainer.stage or trainer.opened < STAGES.index(stage) or trainer.steps == 0:
        trainer.enter(stage)
    begin = last = saved = time.monotonic()
    before, steps, figures = trainer.seconds, 0, []
    while (now := time.monotonic()) - begin < 60.0 * minutes:
        part = (now - begin) / (60.0 * minutes)
        scale = min(1.0, (steps + 1) / 60) * (0.05 + 0.475 * (1.0 + math.cos(math.pi * part)))
        figures.append(trainer.step(rate * scale, count))
        steps += 1
        trainer.seconds = before + time.monotonic() - begin
        if time.monotonic() - last > 180.0:
            table = np.array(figures)
            means = [column[~np.isnan(column)].mean() if (~np.isnan(column)).any() else math.nan
                     for column in table.T]
            print(f"{stage} {trainer.seconds:.0f} s, {trainer.steps} steps, {trainer.notes} notes: "
                  f"magnitude {means[0]:.2f} dB, strong {means[1]:.2f} dB, "
                  f"frequency {means[2]:.4f}, first row {means[3]:.3f}", flush=True)
            last, figures = time.monotonic(), []
            if last - saved > 150.0:
                trainer.save(state)
                saved = last
    trainer.save(state, golden=True)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options."""
    result = make_parser("training.gansynth.train", __doc__)
    result.add_argument("--minutes", type=float, default=60.0,
                        help="training time in minutes (default: %(default)s)")
    result.add_argument("--stage", choices=STAGES, help="train only this stage (default: all three "
                        "in a new run, otherwise that of the state)")
    result.add_argument("--folder", type=Path, default=RUN,
                        help="folder of the data and the state (default: %(default)s)")
    result.add_argument("--start", metavar="NAME|PATH", help="exported weights to start from if "
                        "there is no state yet; they need the project's own packages, too")
    result.add_argument("--batch", type=int,
                        help="number of notes per step (default: 16, on a GPU 61)")
    result.add_argument("--rate", type=float,
                        help="peak learning rate (default: that of the stage)")
    result.add_argument("--fmap-base", type=int, default=1024,
                        help="base number of feature maps (default: %(default)s)")
    result.add_argument("--fmap-max", type=int, default=64,
                        help="maximum number of feature maps (default: %(default)s)")
    result.add_argument("--seed", type=int, default=0,
                        help="random seed (default: %(default)s)")
    result.add_argument("--threads", type=int,
                        help="number of processor threads (default: one for each core)")
    result.add_argument("--export", type=Path, default=Path("checkpoints/gansynth_starter"),
                        help="folder of the checkpoint (default: %(default)s)")
    result.add_argument("--no-export", action="store_true",
                        help="train without exporting a checkpoint")
    return result


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Train; see the module's head."""
    options = parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = options.batch or (61 if device.type == "cuda" else 16)
    notes, state = options.folder / "notes.npz", options.folder / "state.npz"
    if not notes.is_file():
        data.build(notes)
    targets = Targets(data.load(notes), device)
    # Compiled activations take a third of the time; they need a C++ compiler.
    trainer = Trainer(targets, options.fmap_base, options.fmap_max, options.seed,
                      compiled=shutil.which("g++") is not None)
    if state.is_file():
        trainer.restore(state)
        trainer.rng = np.random.default_rng([options.seed, trainer.steps])
    elif options.start:
        from training.gansynth.export import read
        trainer.start(read(options.start))
    if options.stage:
        plan = {options.stage: 1.0}
    elif trainer.steps or options.start:
        plan = {trainer.stage: 1.0}
    else:
        plan = TIME_SHARES
    try:
        for stage, share in plan.items():
            run(trainer, stage, options.minutes * share, count, options.rate or RATES[stage], state)
    except KeyboardInterrupt:
        trainer.save(state, golden=True)
        print(f"\nStopped; the state is saved in {state}, and the same command resumes from it.",
              file=sys.stderr)
        return STOPPED
    if not options.no_export:
        try:
            from training.gansynth.export import export
            print(export(state, options.export))
        except ModuleNotFoundError as error:
            print(f"{error.name} is not installed: on another machine, export {state} with python "
                  "-m training.gansynth.export")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
