"""Training configuration: YAML files that inherit with `base:`, and command-line values over them.

Every key is a field of `TrainingConfig`; nested ones are written with a dot (`--augment.speed "[0.9, 1.1]"`). Groups of
values are merged key by key wherever they come from (`--weights "{l1: 5}"` changes that weight alone), lists replaced.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from ..configuration import CodecConfig
from ..families import preset_config
from .discriminator import PERIODS, WINDOWS
from .losses import MODULUS_FLOOR, PUBLISHED_SCALES
from .stft_discriminator import CHANNELS, FFT_SIZES


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key and the remedy."""


@dataclass
class LossWeights:
    """Weight of each loss in the sum."""

    l1: float = 100.0
    stft: float = 1.0
    cosine: float = 0.0
    """Not of the paper: teaches the phase to a network that the element-wise loss would silence."""
    mel: float = 0.0
    """L1 of both log-mels of the spectral head, and half of that of the first one's differences over time."""
    distillation: float = 0.0
    """Distance of features and latents to those of the teacher."""
    spectral: float = 0.0
    """Not of the papers: log magnitudes, log-mels and spectral convergence at five resolutions."""
    stft_l1: float = 0.0
    """TAAE's spectrogram loss: one STFT, magnitudes only."""
    perceptual_relative: float = 0.0
    """TAAE's perceptual loss: relative L1 over all layers of the speech encoder; no clamp. Of the audio, or, in stages
    without a waveform, of the spectral head's log-mel, for which it must be a Whisper."""
    perceptual_max: float = 5.0
    """Clamp of the perceptual loss, whose weight is 1 below it; `.inf` for no clamp, 0 leaves the loss out."""
    adversarial_max: float = 10.0
    """The same for the discriminator's verdict, clamped as one: adversarial + 2 x feature matching for `kind: l3ac`,
    relative feature matching alone for `kind: taae`, 0.5 x adversarial + 5 x relative feature matching for
    `kind: small`."""

    def with_reconstruction(self, factor: float) -> LossWeights:
        """The same with the element-wise and the spectrogram terms at a factor."""
        return dataclasses.replace(self, l1=self.l1 * factor, stft=self.stft * factor, stft_l1=self.stft_l1 * factor)


@dataclass
class Phase:
    """A stretch of the run with one crop length and one batch size."""

    crop_seconds: float
    batch_size: int
    """Items of one process's micro-batch."""
    until: float = 1.0
    """Share of the run, 0 to 1, at which the phase ends."""
    weights: LossWeights | None = None
    """During the phase, in the place of the configuration's; a file names those alone that differ."""
    compile: bool = False
    """Compile the network (torch.compile); on a CPU that takes minutes for each crop length, once."""


@dataclass
class Augment:
    """What happens to a clip between the corpus and the batch, in this order."""

    level: bool = True
    """L3AC's published rule: the loudest thousandth of the clip averages 0.75 (on the whole clip)."""
    lufs: float | None = None
    """Instead of `level`: integrated loudness (ITU-R BS.1770) to which every clip is brought (TAAE: -20)."""
    speed: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Range of the playback speed, by resampling: pitch and tempo together."""
    equalise_db: float = 0.0
    """Largest gain of a smooth random frequency response."""
    mix_probability: float = 0.0
    """Share of items to which a second clip, 0 to 20 dB weaker, is added."""
    gain_db: list[float] = field(default_factory=lambda: [0.0, 0.0])
    polarity: bool = False

    @property
    def levelled(self) -> bool:
        """Whether a clip is brought to a level at all."""
        return self.level or self.lufs is not None


@dataclass
class DiscriminatorOptions:
    """Size and training of the discriminator; the defaults are those of the published l3ac-1k."""

    kind: str = "l3ac"
    """`l3ac`: multi-period and multi-band STFT, least squares; `taae`: STFTs in the golden ratio, hinge; `small`: the
    same network with few STFTs and channels, adversarial and relative feature matching loss."""
    every: int = 22
    """Updates of the codec to one of the discriminator."""
    own_batches: bool = False
    """The discriminator is trained on batches of its own, between those of the codec (TAAE), not on the codec's."""
    start: float = 0.0
    """Share of the run, 0 to 1, before which there is neither its loss nor its training."""
    lr: float = 5e-5
    schedule: str = "constant"
    """`constant`, which the published one-cycle schedule comes to, or `one_cycle` with the peak `lr`."""
    weight_decay: float = 1e-5
    clip_norm: float = 10.0
    periods: list[int] = field(default_factory=lambda: list(PERIODS))
    """Of the multi-period part, in samples."""
    windows: list[int] = field(default_factory=lambda: list(WINDOWS))
    """Of the multi-band STFT part, in samples."""
    fft_sizes: list[int] = field(default_factory=lambda: list(FFT_SIZES))
    """Of `kind: taae` and `small`, in samples."""
    channels: int = CHANNELS
    """Of `kind: taae` and `small`."""
    samples: int | None = None
    """Length of the stretch of each item that is judged; null for all of it."""

    def __post_init__(self) -> None:
        if self.kind not in ("l3ac", "taae", "small"):
            raise ConfigError(f"discriminator.kind is {self.kind!r}; it must be l3ac, taae or small.")
        if self.schedule not in ("constant", "one_cycle"):
            raise ConfigError(f"discriminator.schedule is {self.schedule!r}; it must be constant or one_cycle.")
        if self.every < 1:
            raise ConfigError(f"discriminator.every is {self.every}; it must be at least 1.")

    def is_due(self, step: int) -> bool:
        """Whether the discriminator is trained before this update of the codec."""
        return step % self.every == 0


@dataclass
class TrainingConfig:
    """Everything that decides a run; the defaults follow the published training code."""

    preset: str = "l3ac-1k"
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the preset's configuration, `L3ACConfig` or `TAAEConfig`, that differ from it."""
    init_from: str | None = None
    """Bundled name or checkpoint directory whose fitting tensors are the start."""
    stage: str = "joint"
    """`tokens`, `distill`, `encode`, `decode` or `joint` (published: end to end), see `network.STAGES`. In `decode`
    every clip keeps the ids that `init_from` gives it, and what was made of such ids its use."""
    teacher: str | None = None
    """Checkpoint of a finished `tokens` run, for stage `distill`."""
    seed: int = 0

    max_steps: int | None = 262_500
    max_minutes: float | None = None
    """The run ends, its schedule finished, at whichever of the two comes first."""
    phases: list[Phase] = field(default_factory=lambda: [Phase(crop_seconds=6.8, batch_size=4)])
    accumulation: int = 6
    """Micro-batches of one update."""

    lr: float = 5e-4
    """Peak of the one-cycle schedule, or the constant rate."""
    schedule: str = "one_cycle"
    """`one_cycle`, or `constant` (TAAE)."""
    div_factor: float = 10.0
    final_div_factor: float = 10.0
    pct_start: float = 0.4
    muon: float | None = None
    """Learning rate of Muon on the matrices of transformer layers and ConvNeXt blocks, as a factor on `lr`, which Adam
    has on all other parameters; null: Adam on all."""
    weight_norm: bool = True
    """Train convolutions with weights split in magnitude and direction, as published."""
    weight_decay: float = 0.0
    clip_norm: float = 1e4
    weights: LossWeights = field(default_factory=LossWeights)
    reconstruction_decay: float = 1.0
    """Factor on the element-wise and spectrogram weights with every update (TAAE: 0.9999)."""
    stft_scales: list[int] = field(default_factory=lambda: list(PUBLISHED_SCALES))
    stft_floor: float = MODULUS_FLOOR
    """Smallest modulus under the logarithm of the STFT loss. With the published one near-silence rules the gradient."""
    perceptual_encoder: str | None = "openai/whisper-tiny.en"
    """Speech encoder of the perceptual loss: hub name, directory, or null for none. The default is taken from the
    package of `eval-offline` where the hub is out of reach; where it is to be had nowhere, a run goes without."""
    perceptual_seconds: float | None = 30.0
    """Window that a Whisper encoder sees; null for the crop alone, which costs a fraction."""
    discriminator: DiscriminatorOptions | None = field(default_factory=DiscriminatorOptions)
    """null trains on the reconstruction losses alone."""

    ema_decay: float = 0.0
    """Decay of the averaged weights that are evaluated and exported; 0 for none."""
    whiten_latents: bool = False
    """Whiten the latents while training (folds into the quantizer's projection at export)."""
    bias_gain: float = 1.0
    """Factor on the initial biases of all but the quantizer. Behind each of many layer norms the default ones
    drown a quiet waveform: the latents start with standard deviations of 0.09 to 0.006 along their principal
    axes, with a gain of 0.03 of 0.27 to 0.06. At 0 digital silence has infinite gradients."""
    output_gain: float = 1.0
    """Factor on the initial gain of the decoder's last convolution."""
    mixed_precision: str | None = None
    """`no`, `bf16` or `fp16`, as Accelerate has them; null: what Accelerate is configured for (`accelerate launch
    --mixed_precision`). Losses, STFTs and the quantizer stay in float32."""

    domains: dict[str, float] = field(default_factory=dict)
    """Share of each domain; a file belongs to the innermost folder that bears a domain's name. Without any, every
    data set is a domain, and all have the same share: as published."""
    default_domain: str = "speech"
    """Where `domains` are given, the one of files that lie in none of them."""
    holdout: list[str] = field(default_factory=list)
    """Patterns of paths kept out of training and used to choose: whole speakers."""
    max_held_out: int = 320
    """Held-out clips that are scored, evenly spread over all of them."""
    decode_gigabytes: float = 4.0
    """Corpora whose files take no more are decoded once into the run's folder, others read as training goes."""
    workers: int = 4
    """Processes that read and augment for each training process; 0: it does so itself."""
    max_unusable: float = 0.05
    """Share of unreadable files above which a run stops."""
    augment: Augment = field(default_factory=Augment)
    manifest: str | None = None
    """CSV with columns path, source, licence: the model card's table of training audio."""

    tracker: str | None = "tensorboard"
    """Any tracker of Accelerate; null for `log.jsonl` alone. Sounds and pictures go to TensorBoard only."""
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
        if self.stage not in ("tokens", "distill", "encode", "decode", "joint"):
            raise ConfigError(f"stage is {self.stage!r}; it must be tokens, distill, encode, decode or joint.")
        if self.teacher is not None and self.stage != "distill":
            raise ConfigError("teacher is for stage distill alone.")
        if not self.phases or self.phases[-1].until < 1.0:
            raise ConfigError("phases must end with one whose `until` is 1.0.")
        if any(a.until >= b.until for a, b in zip(self.phases, self.phases[1:], strict=False)):
            raise ConfigError("phases must be in order of rising `until`.")
        if self.domains and self.default_domain not in self.domains:
            raise ConfigError(f"default_domain {self.default_domain!r} is not one of {sorted(self.domains)}.")

    def _check_network(self) -> None:
        """Refuse what `model` cannot say: transformers takes unknown fields for attributes without effect."""
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
    """The fields of a network's configuration that describe a network, not its weights nor any model."""
    own, every = (dataclasses.fields(each) for each in (kind, PreTrainedConfig))
    return {field.name for field in own} - {field.name for field in every} - {"ids_of", "encoder_digest"}


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Read a YAML file with the files it names under `base:`, then put `overrides` (dotted keys) over it.

    Raises:
        ConfigError: for an unknown key (naming the nearest) or a value of the wrong kind.
    """
    values = read_values(path)
    for key, value in (overrides or {}).items():
        for name in reversed(key.split(".")):
            value = {name: value}
        values = _merge(values, value)
    return _build(TrainingConfig, _with_whole_weights(values), "")


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """`["--lr", "1e-4", "--augment.polarity=true"]` to a dictionary, values read as YAML."""
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
        overrides[name.replace("-", "_")] = _yaml(text, f"--{name} {text}")
    return overrides


def read_values(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file, over those of the file that it names under `base:`.

    Raises:
        ConfigError: There is no such file, or it does not hold keys and values.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"No configuration file {path}.")
    values = _yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a mapping of keys to values.")
    base = values.pop("base", None)
    return values if base is None else _merge(read_values(path.parent / base), values)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where} is not YAML ({getattr(error, 'problem', None) or error}{line}).") from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _with_whole_weights(values: dict[str, Any]) -> dict[str, Any]:
    """The same with weights of the configuration in each phase that has weights of its own, but not these."""
    phases, weights = values.get("phases"), values.get("weights")
    if not isinstance(phases, list) or not isinstance(weights, dict):
        return values
    own = [isinstance(phase, dict) and isinstance(phase.get("weights"), dict) for phase in phases]
    return values | {
        "phases": [
            phase | {"weights": _merge(weights, phase["weights"])} if differs else phase
            for phase, differs in zip(phases, own, strict=True)
        ]
    }


def _require_known(names: Iterable[str], known: Collection[str], prefix: str) -> None:
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            raise ConfigError(f"Unknown key {prefix}{name}; the nearest is {prefix}{nearest}.")


def _build(kind: type, values: dict[str, Any], prefix: str) -> Any:
    """Make the dataclass `kind` from a mapping, checking names and kinds."""
    hints = typing.get_type_hints(kind)
    _require_known(values, hints, prefix)
    try:
        return kind(**{name: _convert(hints[name], value, prefix + name) for name, value in values.items()})
    except TypeError as error:  # a field without default that was not given
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
        except (TypeError, ValueError):
            pass
    elif hint is str and value is False:  # YAML 1.1 reads no as that
        return "no"
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{key} is {value!r}; expected {getattr(hint, '__name__', hint)}.")
