"""Time-frequency features of a raw waveform."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, block
from space.errors import ShapeError
from space.ops.audio import constant_q_kernels, gabor_kernels, hann, has_empty_mel_band, mel_filters, morlet_kernels
from space.ops.transforms import dct
from space.shape import Shape


@block("audio_frontend", role="stem", layout="sequence", paper="time-frequency-frontends")
class AudioFrontend(Block):
    """Time-frequency features of a waveform. x [B, L, C] -> [B, ceil(L / hop), C F] or [B, C, F, ceil(L / hop)].

    Frames of `window` samples, `hop` apart, zeros beyond the ends. `stft`: power of each frame's Fourier transform
    under a Hann taper, F = window / 2 + 1; `mel_stft`: that in F = `bands` triangles evenly spaced in mels; `mfcc`: the
    cosine transform of the mel powers' logarithms; `cqt`, `cwt`: power behind constant-Q or Morlet wavelet kernels of
    at most a window, geometrically spaced; `learned`: behind a learned kernel pair a band, which starts at the mel
    bands. Then log(p + 1e-6). Huzaifah 2017, arXiv:1706.07156; learned: Zeghidour et al. 2018, arXiv:1711.01161.
    """

    example: ClassVar = {"window": 16, "hop": 4, "bands": 3}

    class Options(BlockOptions):
        front_end: Literal["stft", "mel_stft", "cqt", "cwt", "mfcc", "learned"] = Field(
            "mel_stft", description="the transform"
        )
        window: int = Field(400, ge=2, le=65536, description="samples in a frame")
        hop: int = Field(160, ge=1, le=65536, description="samples between frames")
        bands: int = Field(64, ge=1, le=4096, description="features a frame; not for stft")
        sample_rate: float = Field(16000.0, gt=0, le=1e9, description="samples a second")
        low: float = Field(50.0, gt=0, le=1e9, description="lowest frequency of the bands in Hz; not for stft")
        log: bool = Field(True, description="logarithm of the powers; always for mfcc")
        form: Literal["sequence", "grid"] = Field("sequence", description="frames as positions, or as columns of a map")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        unused: dict[str, Any] = {}
        if options.front_end == "stft":
            unused = {"bands": 64, "low": 50.0, "sample_rate": 16000.0}
        if options.front_end == "mfcc":
            unused = {"log": True}
        return options.model_copy(update=unused)

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.hop > options.window:
            raise ShapeError(f"hop must not exceed the window {options.window}; got {options.hop}", "hop")
        if options.front_end == "stft":
            return
        if options.low >= options.sample_rate / 2:
            most = options.sample_rate / 2
            raise ShapeError(f"low must lie below half the sample rate, {most:g} Hz; got {options.low:g}", "low")
        sizes = (options.bands, options.window, options.sample_rate, options.low)
        if options.front_end in ("mel_stft", "mfcc") and has_empty_mel_band(*sizes):
            raise ShapeError(
                f"bands {options.bands} leaves mel bands without a frequency of a window of {options.window} (try fewer"
                " bands or a longer window)",
                "bands",
            )

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        frames = -(-shape.length // options.hop)
        features = options.window // 2 + 1 if options.front_end == "stft" else options.bands
        if options.form == "grid":
            return shape.with_(layout="grid", length=0, height=features, width=frames, frames=0)
        return shape.with_(dim=shape.dim * features, length=frames, height=0, width=0, frames=0)

    taper: Tensor
    filters: Tensor

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.front_end = options.front_end
        self.window, self.hop = options.window, options.hop
        self.log = options.log or options.front_end == "mfcc"
        self.as_grid = options.form == "grid"
        frames = -(-shape.length // options.hop)
        before = (options.window - options.hop) // 2
        self.edges = (before, (frames - 1) * options.hop + options.window - before - shape.length)
        sizes = (options.bands, options.window, options.sample_rate, options.low)
        dtype = torch.get_default_dtype()
        if options.front_end in ("stft", "mel_stft", "mfcc"):
            self.register_buffer("taper", hann(options.window).to(dtype), persistent=False)
        if options.front_end in ("mel_stft", "mfcc"):
            self.register_buffer("filters", mel_filters(*sizes).to(dtype), persistent=False)
        if options.front_end == "cqt":
            self.register_buffer("filters", constant_q_kernels(*sizes).to(dtype), persistent=False)
        if options.front_end == "cwt":
            self.register_buffer("filters", morlet_kernels(*sizes).to(dtype), persistent=False)
        if options.front_end == "learned":
            self.kernels = nn.Parameter(gabor_kernels(*sizes).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        features = self.powers(F.pad(x.transpose(1, 2), self.edges).unfold(2, self.window, self.hop))
        if self.log:
            features = (features + 1e-6).log()
        if self.front_end == "mfcc":
            features = dct(features)
        return features.transpose(2, 3) if self.as_grid else features.transpose(1, 2).flatten(2)

    def powers(self, frames: Tensor) -> Tensor:
        """Powers [B, C, frames, F] of frames [B, C, frames, window]."""
        if self.front_end in ("stft", "mel_stft", "mfcc"):
            spectrum = torch.fft.rfft(frames * self.taper, norm="ortho")
            power = spectrum.real.square() + spectrum.imag.square()
            return power if self.front_end == "stft" else power @ self.filters
        kernels = self.kernels if self.front_end == "learned" else self.filters
        real, imaginary = (frames @ kernels).chunk(2, dim=-1)
        return real.square() + imaginary.square()
