"""Training configuration: YAML files that inherit with `base:`, and command-line values over them.

Every key is a field of `TrainingConfig`; nested keys are written with a dot (`--augment.speed "[0.9, 1.1]"`). Groups
are merged key by key, in files and on the command line (`--weights "{l1: 5}"` keeps the other weights); lists are
replaced as a whole.
"""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from ..configuration import CodecConfig
from ..families import preset_config
from .config_files import ConfigError, merged, parse_value, read_values
from .discriminator import PERIODS, WINDOWS
from .losses import MODULUS_FLOOR, PUBLISHED_SCALES
from .stages import STAGES
from .stft_discriminator import CHANNELS, FFT_SIZES


@dataclass
class LossWeights:
    """Weight of each loss in the sum."""

    l1: float = 100.0
    stft: float = 1.0
    cosine: float = 0.0
    """Not in the paper: teaches phase to a network that the element-wise loss would drive to silence."""
    mel: float = 0.0
    """L1 of both log-mels of the spectral head, plus half the L1 of the first one's differences over time."""
    distillation: float = 0.0
    """Distance of the features and latents to those of the teacher."""
    spectral: float = 0.0
    """Not in the papers: log magnitudes, log-mels and spectral convergence at five resolutions."""
    stft_l1: float = 0.0
    """TAAE's spectrogram loss: one STFT, magnitudes only."""
    perceptual_relative: float = 0.0
    """TAAE's perceptual loss, without clamp: relative L1 over all layers of the speech encoder. Its input is the audio
    or, in stages without a waveform, the spectral head's log-mel, which only a Whisper takes."""
    perceptual_max: float = 5.0
    """Clamp of the perceptual loss, whose weight is 1 below it; `.inf`: no clamp, 0: no perceptual loss."""
    adversarial_max: float = 10.0
    """Clamp of the discriminator's part of the loss: adversarial + 2 x feature matching for `kind: l3ac`, relative
    feature matching for `kind: taae`, 0.5 x adversarial + 5 x relative feature matching for `kind: small`."""

    def with_reconstruction(self, factor: float) -> LossWeights:
        """A copy with the element-wise and spectrogram weights multiplied by `factor`."""
        return dataclasses.replace(self, l1=self.l1 * factor, stft=self.stft * factor, stft_l1=self.stft_l1 * factor)


@dataclass
class Phase:
    """Part of the run with one crop length and one batch size."""

    crop_seconds: float
    batch_size: int
    """Items in the micro-batch of one process."""
    until: float = 1.0
    """Fraction of the run, 0 to 1, at which the phase ends."""
    weights: LossWeights | None = None
    """Weights during the phase instead of the configuration's; a file names only those that differ."""
    compile: bool = False
    """Compile the network (torch.compile); on a CPU this takes minutes for each crop length."""


@dataclass
class Augment:
    """Leveling and augmentation of a clip before it enters a batch, in this order."""

    level: bool = True
    """L3AC's published rule, applied to the whole clip: its loudest thousandth averages 0.75."""
    lufs: float | None = None
    """Instead of `level`: target integrated loudness of every clip (ITU-R BS.1770; TAAE: -20)."""
    speed: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Range of the playback speed, changed by resampling (pitch and tempo together)."""
    equalize_db: float = 0.0
    """Largest gain, in dB, of a smooth random frequency response."""
    mix_probability: float = 0.0
    """Fraction of items to which a second clip, 0 to 20 dB weaker, is added."""
    gain_db: list[float] = field(default_factory=lambda: [0.0, 0.0])
    polarity: bool = False

    @property
    def leveled(self) -> bool:
        """Whether clips are leveled at all."""
        return self.level or self.lufs is not None


@dataclass
class DiscriminatorOptions:
    """Size and training of the discriminator; the defaults are those of the published l3ac-1k training."""

    kind: str = "l3ac"
    """`l3ac`: multi-period and multi-band STFT, least squares; `taae`: STFTs in the golden ratio, hinge, only feature
    matching in the codec's loss; `small`: the network of `taae` on compressed spectra, with few STFTs and channels, and
    both losses."""
    every: int = 22
    """Updates of the codec per update of the discriminator."""
    own_batches: bool = False
    """Train the discriminator on separate batches, between those of the codec (TAAE), instead of on the codec's."""
    start: float = 0.0
    """Fraction of the run, 0 to 1, before which it is neither trained nor part of the loss."""
    lr: float = 5e-5
    schedule: str = "constant"
    """`constant` (the published one-cycle schedule amounts to that), or `one_cycle` with peak `lr`."""
    weight_decay: float = 1e-5
    clip_norm: float = 10.0
    periods: list[int] = field(default_factory=lambda: list(PERIODS))
    """Periods of the multi-period part, in samples (`kind: l3ac`)."""
    windows: list[int] = field(default_factory=lambda: list(WINDOWS))
    """Windows of the multi-band STFT part, in samples (`kind: l3ac`)."""
    fft_sizes: list[int] = field(default_factory=lambda: list(FFT_SIZES))
    """STFT lengths in samples (`kind: taae` and `small`)."""
    channels: int = CHANNELS
    """Channels of each STFT's convolutions (`kind: taae` and `small`)."""
    samples: int | None = None
    """Length of the random excerpt of each item that the discriminator sees; null: the whole item."""

    def __post_init__(self) -> None:
        if self.kind not in ("l3ac", "taae", "small"):
            raise ConfigError(f"discriminator.kind is {self.kind!r}; it must be l3ac, taae or small.")
        if self.schedule not in ("constant", "one_cycle"):
            raise ConfigError(f"discriminator.schedule is {self.schedule!r}; it must be constant or one_cycle.")
        if self.every < 1:
            raise ConfigError(f"discriminator.every is {self.every}; it must be at least 1.")

    def is_due(self, step: int) -> bool:
        """Whether the discriminator is updated before this update of the codec."""
        return step % self.every == 0


@dataclass
class TrainingConfig:
    """Everything that determines a run; the defaults follow the published training code."""

    preset: str = "l3ac-1k"
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of `L3ACConfig` or `TAAEConfig` that differ from the preset."""
    init_from: str | None = None
    """Bundled name or checkpoint directory; every tensor that fits is taken from it."""
    stage: str = "joint"
    """`tokens`, `distill`, `encode`, `decode` or `joint` (published: end to end), see `stages.STAGES`. In `decode`
    every clip keeps the ids that `init_from` gives it."""
    teacher: str | None = None
    """Checkpoint of a finished `tokens` run, for stage `distill` only."""
    seed: int = 0

    max_steps: int | None = 262_500
    max_minutes: float | None = None
    """The run ends, with its schedule, at whichever of the two limits comes first."""
    phases: list[Phase] = field(default_factory=lambda: [Phase(crop_seconds=6.8, batch_size=4)])
    accumulation: int = 6
    """Micro-batches per update."""

    lr: float = 5e-4
    """Peak of the one-cycle schedule, or the constant rate."""
    schedule: str = "one_cycle"
    """`one_cycle`, or `constant` (TAAE)."""
    div_factor: float = 10.0
    final_div_factor: float = 10.0
    pct_start: float = 0.4
    muon: float | None = None
    """Muon trains the matrices of transformer layers and ConvNeXt blocks with `muon` times `lr`, Adam everything else
    with `lr`; null: Adam trains everything."""
    weight_norm: bool = True
    """Split the weights of convolutions into magnitude and direction while training, as published."""
    weight_decay: float = 0.0
    clip_norm: float = 1e4
    weights: LossWeights = field(default_factory=LossWeights)
    reconstruction_decay: float = 1.0
    """Factor on the element-wise and spectrogram weights at every update (TAAE: 0.9999)."""
    stft_scales: list[int] = field(default_factory=lambda: list(PUBLISHED_SCALES))
    stft_floor: float = MODULUS_FLOOR
    """Smallest modulus under the logarithm of the STFT loss; with the published one near-silence dominates."""
    perceptual_encoder: str | None = "openai/whisper-tiny.en"
    """Speech encoder of the perceptual loss: hub name, directory, or null for none. The default is taken from the
    package of `eval-offline` where the hub is out of reach; where it is to be had nowhere, a run goes without."""
    perceptual_seconds: float | None = 30.0
    """Window that a Whisper encoder sees; null: only the crop, at a fraction of the cost."""
    discriminator: DiscriminatorOptions | None = field(default_factory=DiscriminatorOptions)
    """null: no adversarial loss."""

    ema_decay: float = 0.0
    """Decay of the averaged weights that are scored and exported; 0: no averaging."""
    whiten_latents: bool = False
    """Whiten the latents while training; folded into the quantizer's projection at export."""
    bias_gain: float = 1.0
    """Factor on the initial biases of all layers but the quantizer's. The default biases mask a quiet waveform after
    every layer norm: the standard deviations of the initial latents along their principal axes are 0.09 to 0.006, and
    0.27 to 0.06 with a gain of 0.03. With 0, digital silence has infinite gradients."""
    output_gain: float = 1.0
    """Factor on the initial weights of the decoder's last layer."""
    mixed_precision: str | None = None
    """`no`, `bf16` or `fp16`; null: as Accelerate is configured (`accelerate launch --mixed_precision`). Losses, STFTs
    and the quantizer stay in float32."""

    domains: dict[str, float] = field(default_factory=dict)
    """Share of each domain; a file belongs to the innermost folder named like a domain. Empty: every data set is a
    domain, all with the same share, as published."""
    default_domain: str = "speech"
    """Domain of files in no folder named like one of `domains`."""
    holdout: list[str] = field(default_factory=list)
    """Patterns of paths kept out of training, by which the best weights are chosen: whole speakers."""
    max_held_out: int = 320
    """Largest number of held-out clips without transcript that are scored, evenly spread over all of them."""
    decode_gigabytes: float = 4.0
    """A corpus whose files take no more is decoded once into the run folder; a larger one is read crop by crop."""
    workers: int = 4
    """Processes per training process that read and augment; 0: the training process does both."""
    max_unusable: float = 0.05
    """Fraction of unreadable files above which a run stops."""
    allow_truncated: bool = False
    """Train on what is there of truncated files, each logged; otherwise they are unreadable."""
    allow_outside: bool = False
    """Also train on what manifests, tables and links of a dataset name outside of it; otherwise that is left out."""
    augment: Augment = field(default_factory=Augment)
    manifest: str | None = None
    """CSV with columns `path`, `source` and `licence` for the model card's table of training audio."""

    tracker: str | None = "tensorboard"
    """Any tracker of Accelerate; null: only `log.jsonl`. Only TensorBoard receives audio and spectrograms."""
    log_every: int = 20
    save_every_minutes: float = 10.0
    evaluate_every_minutes: float = 30.0

    def __post_init__(self) -> None:
        self._check_network()
        for name in ("max_steps", "accumulation", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ConfigError(f"max_minutes is {self.max_minutes:g}; it must be above 0.")
        if self.schedule not in ("constant", "one_cycle"):
            raise ConfigError(f"schedule is {self.schedule!r}; it must be constant or one_cycle.")
        if not 0.0 < self.reconstruction_decay <= 1.0:
            raise ConfigError(f"reconstruction_decay is {self.reconstruction_decay}; it must be in (0, 1].")
        if self.max_steps is None and self.max_minutes is None:
            raise ConfigError("max_steps and max_minutes are both null: set at least one of them.")
        if self.stage not in STAGES:
            raise ConfigError(f"stage is {self.stage!r}; it must be tokens, distill, encode, decode or joint.")
        if self.teacher is not None and self.stage != "distill":
            raise ConfigError(f"teacher is given in stage {self.stage}; only stage distill has one.")
        if not self.phases or self.phases[-1].until < 1.0:
            raise ConfigError("The last phase must have `until` 1.0.")
        if any(a.until >= b.until for a, b in zip(self.phases, self.phases[1:], strict=False)):
            raise ConfigError("`until` must rise from phase to phase.")
        if self.domains and self.default_domain not in self.domains:
            raise ConfigError(f"default_domain is {self.default_domain!r}; it must be one of {sorted(self.domains)}.")

    def _check_network(self) -> None:
        """Refuse unknown fields in `model`, which transformers would store without effect, and invalid values."""
        try:
            network = type(preset_config(self.preset))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        _require_known(self.model, network_fields(network), "model.")
        try:
            preset_config(self.preset, **self.model)
        except StrictDataclassError as error:
            reason = str(error).strip().rpartition("\n")[2].partition("Error: ")[2].rstrip(".")
            raise ConfigError(f"model: {reason}.") from None


def network_fields(kind: type[CodecConfig]) -> set[str]:
    """Fields of a configuration class that describe the network, rather than its weights or any model."""
    own, every = (dataclasses.fields(each) for each in (kind, PreTrainedConfig))
    return {field.name for field in own} - {field.name for field in every} - {"ids_of", "encoder_digest"}


def load_config(config: str | Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a configuration and the files it names under `base:`, and apply `overrides` (dotted keys).

    Args:
        config: Name of a bundled configuration, or a YAML file.
        overrides: Values by key.

    Raises:
        ConfigError: A key is unknown (the message names the nearest), or a value has the wrong type.
    """
    values = read_values(config)
    for key, value in (overrides or {}).items():
        for name in reversed(key.split(".")):
            value = {name: value}
        values = merged(values, value)
    return _build(TrainingConfig, _with_whole_weights(values), "")


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """Convert `["--lr", "1e-4", "--augment.polarity=true"]` to a dictionary, reading values as YAML."""
    overrides = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ConfigError(f"{name!r}: expected --key value.")
        name, equals, text = name[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f"--{name} has no value.")
            text = rest.pop(0)
        overrides[name.replace("-", "_")] = parse_value(text, f"--{name} {text}")
    return overrides


def _with_whole_weights(values: dict[str, Any]) -> dict[str, Any]:
    """A copy in which the weights of each phase are merged over the configuration's weights."""
    phases, weights = values.get("phases"), values.get("weights")
    if not isinstance(phases, list) or not isinstance(weights, dict):
        return values
    own = [isinstance(phase, dict) and isinstance(phase.get("weights"), dict) for phase in phases]
    return values | {
        "phases": [
            phase | {"weights": merged(weights, phase["weights"])} if differs else phase
            for phase, differs in zip(phases, own, strict=True)
        ]
    }


def _require_known(names: Iterable[str], known: Collection[str], prefix: str) -> None:
    for name in names:
        if not isinstance(name, str) or len(name) > 200:
            raise ConfigError(f"Unknown key {prefix}{reprlib.repr(name)}.")
        if name not in known:
            nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            raise ConfigError(f"Unknown key {prefix}{name}; the nearest is {prefix}{nearest}.")


def _build(kind: type, values: dict[str, Any], prefix: str) -> Any:
    """Build the dataclass `kind` from a mapping, checking keys and types."""
    hints = typing.get_type_hints(kind)
    _require_known(values, hints, prefix)
    try:
        return kind(**{name: _convert(hints[name], value, prefix + name) for name, value in values.items()})
    except TypeError as error:  # a required field is missing
        raise ConfigError(f"{prefix.rstrip('.') or 'configuration'}: {error}.") from None


def _convert(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast(type, hint), value, key + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(arguments[0], value, key)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {name: _convert(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if hint is Any:
        return value
    if hint is float:  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    elif hint is str and value is False:  # YAML 1.1 reads `no` as false
        return "no"
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{key} is {reprlib.repr(value)}; expected {getattr(hint, '__name__', hint)}.")
