"""Audio front ends against torch's short-time transform, energy, and pure tones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from space import SearchSpace
from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.ops.audio import (
    constant_q_kernels,
    geometric_centres,
    has_empty_mel_band,
    hertz_to_mel,
    mel_edges,
    mel_filters,
    morlet_kernels,
)
from space.ops.transforms import dct
from space.shape import Shape

WAVE = Shape("sequence", 1, 8000)
RATE = 16000.0


def same(got: Tensor, want: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def tone(hertz: float, length: int = 8000) -> Tensor:
    return torch.sin(2 * math.pi * hertz / RATE * torch.arange(length, dtype=torch.float64)).view(1, -1, 1)


def built(front_end: str, shape: Shape = WAVE, **options):
    return instantiate({"audio_frontend": {"front_end": front_end, **options}}, shape).double()


@pytest.mark.paper("time-frequency-frontends")
@pytest.mark.parametrize(("window", "hop"), [(400, 160), (256, 256), (512, 64)])
def test_stft_has_half_the_window_and_one_bins_and_length_over_hop_frames(window, hop) -> None:
    node = {"audio_frontend": {"front_end": "stft", "window": window, "hop": hop}}
    assert infer_shape(node, WAVE) == Shape("sequence", window // 2 + 1, math.ceil(8000 / hop))
    grid = {"audio_frontend": {"front_end": "stft", "window": window, "hop": hop, "form": "grid"}}
    assert infer_shape(grid, WAVE) == Shape("grid", 1, height=window // 2 + 1, width=math.ceil(8000 / hop))


@pytest.mark.paper("time-frequency-frontends")
def test_stft_is_that_of_torch() -> None:
    x = torch.randn(2, 8000, 1, dtype=torch.float64)
    block = built("stft", log=False)
    padded = torch.nn.functional.pad(x[:, :, 0], block.edges)
    taper = torch.hann_window(400, dtype=torch.float64)
    want = torch.stft(padded, 400, 160, window=taper, center=False, return_complex=True).abs().square() / 400
    same(block(x), want.transpose(1, 2))


@pytest.mark.paper("time-frequency-frontends")
def test_energy_is_kept() -> None:
    x = torch.randn(1, 8000, 1, dtype=torch.float64)
    block = built("stft", window=400, hop=400, log=False)
    block.taper.fill_(1)
    power = block(x)
    both_sides = 2 * power.sum() - power[..., 0].sum() - power[..., -1].sum()
    same(both_sides, x.square().sum(), 1e-10)


def test_mel_triangles_meet() -> None:
    edges = mel_edges(20, 100.0, 8000.0)
    steps = torch.tensor([hertz_to_mel(float(e)) for e in edges]).diff()
    same(steps, steps[:1].expand_as(steps), 1e-3)
    assert round(hertz_to_mel(1000.0), 1) == 1000.0
    filters = mel_filters(20, 512, RATE, 100.0)
    frequency = torch.arange(257) * RATE / 512
    inside = (frequency > edges[1]) & (frequency < edges[-2])
    same(filters[inside].sum(1), torch.ones(int(inside.sum()), dtype=torch.float64))
    for bands, window in [(20, 512), (64, 400), (64, 128), (3, 16), (10, 16)]:
        empty = bool((mel_filters(bands, window, RATE, 50.0).sum(0) == 0).any())
        assert has_empty_mel_band(bands, window, RATE, 50.0) == empty


@pytest.mark.paper("time-frequency-frontends")
@pytest.mark.parametrize("front_end", ["stft", "mel_stft", "cqt", "cwt", "learned"])
@pytest.mark.parametrize("hertz", [440.0, 3000.0])
def test_a_tone_is_strongest_in_its_band(front_end, hertz) -> None:
    block = built(front_end, bands=24, window=800, low=100.0, log=False)
    features = block(tone(hertz))[0, 10:40].mean(0)
    if front_end == "stft":
        centres = torch.arange(401) * RATE / 800
    elif front_end in ("cqt", "cwt"):
        centres = geometric_centres(24, 100.0, RATE / 2)
    else:
        centres = mel_edges(24, 100.0, RATE / 2)[1:-1]
    nearest = (
        (centres / hertz).log().abs().argmin() if front_end in ("cqt", "cwt") else (centres - hertz).abs().argmin()
    )
    assert features.argmax() == nearest


@pytest.mark.paper("time-frequency-frontends")
def test_mfcc_is_the_cosine_transform_of_log_mel_powers() -> None:
    x = torch.randn(2, 8000, 1, dtype=torch.float64)
    options = {"bands": 20, "window": 512}
    same(built("mfcc", **options)(x), dct(built("mel_stft", **options)(x)))


@pytest.mark.parametrize("kernels", [constant_q_kernels, morlet_kernels])
def test_kernels_pass_a_tone_of_their_frequency_at_half_its_height(kernels) -> None:
    taps = kernels(12, 1024, RATE, 200.0)
    centres = geometric_centres(12, 200.0, RATE / 2)
    for k in (3, 7, 11):
        x = tone(float(centres[k]), 1024)[0, :, 0]
        power = (x @ taps[:, k]) ** 2 + (x @ taps[:, 12 + k]) ** 2
        assert float(power) == pytest.approx(0.25, rel=0.01)


@pytest.mark.paper("time-frequency-frontends")
def test_window_and_front_end_are_choices() -> None:
    text = """
input: {kind: series, channels: 1, length: 4000}
architecture:
  sequence:
    - audio_frontend:
        front_end: {choice: [stft, mel_stft, cqt, cwt, mfcc]}
        window: {choice: [256, 512]}
        hop: 128
        bands: 16
    - classifier: {classes: 4}
"""
    space = SearchSpace.from_text(text, "audio.yaml")
    seen = {space.sample(seed=seed).id for seed in range(40)}
    assert len(seen) == 10


def test_what_does_not_fit_is_refused() -> None:
    for options, message in [
        ({"hop": 500}, "hop must not exceed the window 400"),
        ({"low": 9000.0}, "low must lie below half the sample rate, 8000 Hz"),
        ({"window": 64, "hop": 32}, "leaves mel bands without a frequency"),
    ]:
        with pytest.raises(ShapeError, match=message):
            built("mel_stft", **options)
