"""Configurations: `CodecConfig`, the base class of all codecs, and `L3ACConfig`."""

import inspect
import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .hub import refuse_remote_code, takes_bundled_names
from .limits import CONFIG_BOUNDS, CONFIG_ENTRIES, CONFIG_IDS_OF, HOP_SAMPLES, WINDOW_SAMPLES
from .presets import FAMILIES

QUANTIZERS = ("super_fsq", "fsq")
DOMAINS = ("waveform", "spectral")
ATTENTIONS = ("block", "sliding")
LOADING_ARGUMENTS = {
    "return_unused_kwargs",
    "name_or_path",
    "attn_implementation",
    "torch_dtype",
    "trust_remote_code",
    "code_revision",
}
"""Arguments of transformers' loaders that are no values of a configuration."""

SHORTEST_WINDOW = 0.025
"""Length in seconds of the shorter window of the spectral analysis."""


@strict
class CodecConfig(PreTrainedConfig):
    r"""Base class of the configurations of all codecs: sampling rate, quantizer, and weights with the same ids.

    Args:
        sampling_rate (`int`): Sampling rate of the audio in Hz.
        levels (`list[int]`): Number of levels of each latent dimension, the first one varying fastest in the id; with
            residual stages, of each stage.
        num_quantizers (`int`): Number of codebooks K, one for each residual stage (arXiv 2411.19842, Eq. 3 and 4).
        noise_probability (`float`): Probability with which training adds noise to a value instead of rounding it.
        ids_of (`list[str]`): Digests of other weights with the same ids, because the decoder alone was trained further.
        encoder_digest (`str`): Digest of the encoder to which `ids_of` applies.
    """

    keys_to_ignore_at_inference = ["audio_values", "audio_codes", "audio_codes_mask"]  # noqa: RUF012
    """Outputs that `Trainer.predict` leaves out: it joins batches of unequal length along the second axis only, which
    is time in `latents` alone."""

    sampling_rate: int = 16_000
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    num_quantizers: int = 1
    noise_probability: float = 0.5
    ids_of: list[str] | tuple[str, ...] = ()
    encoder_digest: str | None = None

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Always a ValueError that says how others load this class, see `hub.refuse_remote_code`."""
        refuse_remote_code(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuse lists of very many entries before each of these is validated.

        Raises:
            ValueError: A list is too long.
        """
        for field, value in kwargs.items():
            most = CONFIG_IDS_OF if field == "ids_of" else CONFIG_ENTRIES
            if (field in CONFIG_BOUNDS or field == "ids_of") and isinstance(value, (list, tuple)) and len(value) > most:
                raise ValueError(f"`{field}` has {len(value)} entries; it must have at most {most}.")
        return super().__new__(cls)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Any:
        """Return the configuration of a preset, e.g. `"l3ac-1k"`; `overrides` replace its values.

        Raises:
            ValueError: `name` is not a preset of this family.
            TypeError: The configuration has no value of a name in `overrides`.
        """
        presets = FAMILIES[cls.model_type]
        if name not in presets:
            raise ValueError(f"{name!r} is not a preset of {cls.__name__}; choose one of {', '.join(presets)}.")
        known = inspect.signature(cls).parameters
        if unknown := sorted(overrides.keys() - known):
            raise TypeError(f"{cls.__name__} has no value `{unknown[0]}`; its values are {', '.join(known)}.")
        return cls(**{**presets[name], **overrides})

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Return the configuration of a dictionary, as of `config.json`; `kwargs` replace its values.

        Raises:
            TypeError: The configuration has no value of a name in `kwargs`.
        """
        if not kwargs.get("return_unused_kwargs"):
            known = {*inspect.signature(cls).parameters, *config_dict, *LOADING_ARGUMENTS}
            if unknown := sorted(name for name in kwargs.keys() - known if not name.startswith("_")):
                raise TypeError(f"{cls.__name__} has no value `{unknown[0]}`: leave it out.")
        return super().from_dict(config_dict, **kwargs)

    @property
    def hop_length(self) -> int:
        """Number of samples in a frame, which has an id of each codebook."""
        raise NotImplementedError(f"{type(self).__name__} must define `hop_length`.")

    @property
    def attention_span(self) -> int:
        """Number of frames that an attention layer spans; the structure of a network repeats with this period."""
        raise NotImplementedError(f"{type(self).__name__} must define `attention_span`.")

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def codebook_size(self) -> int:
        """Number of ids in each codebook."""
        return math.prod(self.levels)

    @property
    def frame_levels(self) -> tuple[int, ...]:
        """Levels of all digits of a frame, stage by stage, for `split_ids(ids, frame_levels, num_quantizers)`."""
        return tuple(self.levels) * self.num_quantizers

    @property
    def grid_levels(self) -> tuple[int, ...]:
        """Number of levels of each latent dimension with all stages together: (L − 1)^K + 1."""
        return tuple((level - 1) ** self.num_quantizers + 1 for level in self.levels)

    @property
    def bits_per_second(self) -> float:
        """Bit rate: token rate of all codebooks times log2 of the codebook size."""
        return self.frame_rate * self.num_quantizers * math.log2(self.codebook_size)

    @property
    def whole_bits_per_second(self) -> float:
        """Bit rate with an integer number of bits for each id (arXiv 2411.19842, Eq. 5)."""
        return self.frame_rate * self.num_quantizers * math.ceil(math.log2(self.codebook_size))

    def _check_at_least_one(self, *fields: str) -> None:
        for field in fields:
            if getattr(self, field) < 1:
                raise ValueError(f"`{field}` is {getattr(self, field)}; it must be at least 1.")

    def _check_bounds(self) -> None:
        """Refuse values beyond `limits.CONFIG_BOUNDS`, before anything is computed from them."""
        for field, most in CONFIG_BOUNDS.items():
            value = getattr(self, field, None)
            entries = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
            if entries and max(entries) > most:
                raise ValueError(f"`{field}` is {value}; it must be at most {most}.")

    def _check_hop(self) -> None:
        if self.hop_length > HOP_SAMPLES or self.hop_length * self.attention_span > WINDOW_SAMPLES:
            raise ValueError(
                f"A frame has {self.hop_length} samples and an attention window {self.attention_span} frames; they "
                f"must have at most {HOP_SAMPLES} and, together, {WINDOW_SAMPLES} samples: check the rates."
            )

    def validate_architecture(self) -> None:
        """Check all values; called whenever a configuration is created.

        Raises:
            ValueError: A value is invalid; the message names the field and what it must be.
        """
        self._check_bounds()
        self._check_at_least_one("sampling_rate", "num_quantizers")
        lowest = 2 if self.num_quantizers == 1 else 3
        if not self.levels or min(self.levels) < lowest:
            raise ValueError(f"`levels` is {list(self.levels)}; every entry must be at least {lowest}.")
        if math.prod(self.frame_levels) > 2**63:
            raise ValueError(f"`levels` is {list(self.levels)}; together, the ids of a frame must fit into 64 bits.")
        if not 0.0 <= self.noise_probability <= 1.0:
            raise ValueError(f"`noise_probability` is {self.noise_probability}; it must lie in [0, 1].")


@takes_bundled_names
@strict
class L3ACConfig(CodecConfig):
    r"""Configuration of an [`L3ACModel`]; the defaults are `l3ac-1k` (arXiv 2504.04949, Table 1).

    Args:
        feature_dim (`int`): Width D of the transformers and of the features around the quantizer.
        encoder_rates (`list[int]`): Strides of the encoder's down-sampling convolutions.
        encoder_dims (`list[int]`): Channels of the encoder's stages, one more than there are rates.
        encoder_depths (`list[int]`): ConvNeXt blocks in each encoder stage.
        encoder_layers (`list[int]`): Transformer layers before and after the inner down-sampling; one
            number if `compress_rate` is 1.
        compress_rate (`int`): Down-sampling rate r between the transformers of the encoder.
        decoder_rates (`list[int]`): Up-sampling rates; their product is that of `encoder_rates`.
        decoder_dims (`list[int]`): Channels of the decoder's stages, one more than there are rates.
        decoder_depths (`list[int]`): ConvNeXt blocks before each up-sampling.
        decoder_layers (`list[int]`): Transformer layers at the frame rate and after the inner up-sampling; one number
            if `compress_rate` is 1.
        num_attention_heads (`int`): Number of attention heads, each of width `feature_dim` / 4.
        attention (`str`): `"block"` (published): a query sees its own block of W frames and the previous block;
            `"sliding"`: a query sees its own time step and those before it within W frames.
        attention_window (`int`): Attention window W in frames.
        analysis (`str`): Front end of the encoder: `"waveform"` (published), convolutions, or `"spectral"`, log-mel
            spectrograms, for which only the product of `encoder_rates` matters.
        analysis_depth (`int`): Number of ConvNeXt blocks of the spectral analysis.
        synthesis (`str`): Back end of the decoder: `"waveform"` (published), convolutions and interpolations, or
            `"spectral"`, inverse Fourier transforms, for which only the product of `decoder_rates` matters.
        synthesis_dim (`int`): Channels of the spectral synthesis.
        synthesis_depth (`int`): Number of ConvNeXt blocks of the spectral synthesis.
        synthesis_lookahead (`int`): Number of time steps after its own that each convolution of the spectral synthesis
            sees, 0 to 3 of its seven.
        synthesis_lookahead_layers (`int`, *optional*): Number of convolutions of the spectral synthesis that look
            ahead, the last ones; the others see none after their own time step. None: all.
        quantizer (`str`): `"super_fsq"` (L3AC) or `"fsq"` (SQCodec; Mentzer et al., arXiv 2309.15505).
        levels (`list[int]`): Odd number of levels of each latent dimension.
        pad_to_window (`bool`): Pad clips with zeros to whole attention windows (SQCodec) instead of whole frames.
        tconv (`bool`): Whether the first layer of the encoder is TConv; otherwise, as an ablation, it is a convolution
            with kernel 7.
    """

    model_type = "l3ac"
    attribute_map = {"hidden_size": "feature_dim"}  # noqa: RUF012 - transformers declares it as an instance field

    feature_dim: int = 128
    encoder_rates: list[int] | tuple[int, ...] = (6, 5, 3)
    encoder_dims: list[int] | tuple[int, ...] = (24, 48, 96, 192)
    encoder_depths: list[int] | tuple[int, ...] = (1, 1, 1, 2)
    encoder_layers: list[int] | tuple[int, ...] = (1, 2)
    compress_rate: int = 3
    decoder_rates: list[int] | tuple[int, ...] = (5, 3, 3, 2)
    decoder_dims: list[int] | tuple[int, ...] = (512, 256, 96, 48, 24)
    decoder_depths: list[int] | tuple[int, ...] = (3, 3, 2, 1)
    decoder_layers: list[int] | tuple[int, ...] = (3, 2)
    num_attention_heads: int = 6
    attention: str = "block"
    attention_window: int = 250
    analysis: str = "waveform"
    analysis_depth: int = 3
    synthesis: str = "waveform"
    synthesis_dim: int = 256
    synthesis_depth: int = 8
    synthesis_lookahead: int = 1
    synthesis_lookahead_layers: int | None = None
    quantizer: str = "super_fsq"
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    pad_to_window: bool = False
    tconv: bool = True

    @property
    def hop_length(self) -> int:
        """Number of samples in a frame."""
        return math.prod(self.encoder_rates) * self.compress_rate

    @property
    def fine_hop(self) -> int:
        """Samples in a fine step, the time step of the features between front or back end and transformers."""
        return self.hop_length // self.compress_rate

    @property
    def attention_span(self) -> int:
        """Attention window W in frames."""
        return self.attention_window

    def validate_architecture(self) -> None:
        """Check all values; called whenever a configuration is created.

        Raises:
            ValueError: A value is invalid; the message names the field and what it must be.
        """
        super().validate_architecture()
        self._check_at_least_one("feature_dim", "compress_rate", "num_attention_heads", "attention_window")
        for side in ("encoder", "decoder"):
            for field in (f"{side}_rates", f"{side}_dims", f"{side}_depths", f"{side}_layers"):
                values = getattr(self, field)
                lowest = 0 if field.endswith("depths") else 1
                if not values or min(values) < lowest:
                    raise ValueError(f"`{field}` is {list(values)}; give integers of at least {lowest}.")
            rates, dims = getattr(self, f"{side}_rates"), getattr(self, f"{side}_dims")
            if len(dims) != len(rates) + 1:
                raise ValueError(
                    f"`{side}_dims` has {len(dims)} entries; it must have one more than `{side}_rates` ({len(rates)})."
                )
            stacks = 1 if self.compress_rate == 1 else 2
            if len(getattr(self, f"{side}_layers")) != stacks:
                raise ValueError(
                    f"`{side}_layers` is {list(getattr(self, f'{side}_layers'))}; "
                    f"the number of its entries must be {stacks} if `compress_rate` is {self.compress_rate}."
                )
        if len(self.encoder_depths) != len(self.encoder_dims):
            raise ValueError(
                f"`encoder_depths` has {len(self.encoder_depths)} entries; it must have one for each of the "
                f"{len(self.encoder_dims)} `encoder_dims`."
            )
        if len(self.decoder_depths) != len(self.decoder_rates):
            raise ValueError(
                f"`decoder_depths` has {len(self.decoder_depths)} entries; it must have one for each of the "
                f"{len(self.decoder_rates)} `decoder_rates`."
            )
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise ValueError(
                f"The product of `decoder_rates` is {math.prod(self.decoder_rates)}; it must be that of "
                f"`encoder_rates`, {math.prod(self.encoder_rates)}."
            )
        self._check_hop()
        if self.feature_dim % 4:
            raise ValueError(f"`feature_dim` is {self.feature_dim}; it must be a multiple of 4.")
        for field, values in (
            ("quantizer", QUANTIZERS),
            ("attention", ATTENTIONS),
            ("analysis", DOMAINS),
            ("synthesis", DOMAINS),
        ):
            if getattr(self, field) not in values:
                raise ValueError(f"`{field}` is {getattr(self, field)!r}; it must be one of {', '.join(values)}.")
        self._check_spectral()
        if any(level % 2 == 0 for level in self.levels):
            raise ValueError(f"`levels` is {list(self.levels)}; every entry must be an odd number of at least 3.")
        if self.num_quantizers > 1 and self.quantizer != "super_fsq":
            raise ValueError(
                f"`num_quantizers` is {self.num_quantizers}; it must be 1 unless `quantizer` is 'super_fsq'."
            )

    def _check_spectral(self) -> None:
        self._check_at_least_one("synthesis_dim")
        for field in ("analysis_depth", "synthesis_depth"):
            if getattr(self, field) < 0:
                raise ValueError(f"`{field}` is {getattr(self, field)}; it must be at least 0.")
        if not 0 <= self.synthesis_lookahead <= 3:
            raise ValueError(f"`synthesis_lookahead` is {self.synthesis_lookahead}; it must be 0, 1, 2 or 3.")
        if self.synthesis_lookahead_layers is not None and self.synthesis_lookahead_layers < 0:
            raise ValueError(
                f"`synthesis_lookahead_layers` is {self.synthesis_lookahead_layers}; it must be at least 0, or null."
            )
        if "spectral" not in (self.analysis, self.synthesis):
            return
        if self.fine_hop % 2 or self.fine_hop > SHORTEST_WINDOW * self.sampling_rate:
            raise ValueError(
                f"The product of `encoder_rates` is {self.fine_hop}; with spectral analysis or synthesis, it must be "
                f"even and at most {round(SHORTEST_WINDOW * self.sampling_rate)} samples, the shorter analysis window."
            )


__all__ = ["CodecConfig", "L3ACConfig"]
