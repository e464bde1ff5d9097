"""What all codecs say of their ids, and `L3ACConfig`: one typed field for each choice of the published networks."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .hub import takes_bundled_names
from .presets import FAMILIES

QUANTIZERS = ("super_fsq", "fsq")
ENDS = ("waveform", "spectral")
ATTENTIONS = ("block", "sliding")
SHORTEST_WINDOW = 0.025
"""Seconds of the shorter window of the spectral analysis."""


@strict
class CodecConfig(PreTrainedConfig):
    r"""What every codec of this package says of its ids.

    Args:
        sampling_rate (`int`): Samples a second of the audio.
        levels (`list[int]`): Number of levels of each latent dimension, first one fastest in the id; of each stage,
            where there are several.
        num_quantizers (`int`): Streams of ids K: 1, or that many residual stages (arXiv 2411.19842, Eq. 3 and 4).
        noise_probability (`float`): Share of what training moves by uniform noise instead of rounding it.
        ids_of (`list[str]`): Digests of other weights whose ids are the same: these kept their encoder, and the
            decoder was trained further.
        encoder_digest (`str`): Of the encoder for which `ids_of` was written; no other has those ids.
    """

    sampling_rate: int = 16_000
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    num_quantizers: int = 1
    noise_probability: float = 0.5
    ids_of: list[str] | tuple[str, ...] = ()
    encoder_digest: str | None = None

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Any:
        """The configuration of a published network, e.g. `"l3ac-1k"`; `overrides` replace its values.

        Raises:
            ValueError: `name` is not a preset of this family.
        """
        presets = FAMILIES[cls.model_type]
        if name not in presets:
            raise ValueError(f"There is no preset {name!r}; the presets are {', '.join(presets)}.")
        return cls(**{**presets[name], **overrides})

    @property
    def hop_length(self) -> int:
        """Samples for each frame, which has one id of each stream."""
        raise NotImplementedError(f"{type(self).__name__} must say how many samples a frame has.")

    @property
    def attention_span(self) -> int:
        """Frames of ids that one layer of attention spans; the structure of a network repeats after so many."""
        raise NotImplementedError(f"{type(self).__name__} must say how many frames its attention spans.")

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sampling_rate / self.hop_length

    @property
    def codebook_size(self) -> int:
        """Number of different ids of each stream."""
        return math.prod(self.levels)

    @property
    def frame_levels(self) -> tuple[int, ...]:
        """Levels of all digits of a frame, stage by stage: `split_ids(…, frame_levels, num_quantizers)` are its ids."""
        return tuple(self.levels) * self.num_quantizers

    @property
    def grid_levels(self) -> tuple[int, ...]:
        """Levels of each latent dimension that the stages make together: (L − 1)^K + 1."""
        return tuple((level - 1) ** self.num_quantizers + 1 for level in self.levels)

    @property
    def bits_per_second(self) -> float:
        """Ids a second of all streams times log2 of the codebook's size (no rounding up)."""
        return self.frame_rate * self.num_quantizers * math.log2(self.codebook_size)

    @property
    def whole_bits_per_second(self) -> float:
        """The same with whole bits for each id (arXiv 2411.19842, Eq. 5)."""
        return self.frame_rate * self.num_quantizers * math.ceil(math.log2(self.codebook_size))

    def _check_at_least_one(self, *fields: str) -> None:
        for field in fields:
            if getattr(self, field) < 1:
                raise ValueError(f"`{field}` is {getattr(self, field)}; it must be at least 1.")

    def validate_architecture(self) -> None:
        """Refuse values that describe no network; called whenever a config is made.

        Raises:
            ValueError: names the field, its value and what it must be.
        """
        self._check_at_least_one("sampling_rate", "num_quantizers")
        lowest = 2 if self.num_quantizers == 1 else 3
        if not self.levels or min(self.levels) < lowest:
            raise ValueError(f"`levels` is {list(self.levels)}; every entry must be at least {lowest}.")
        if math.prod(self.frame_levels) > 2**63:
            raise ValueError(f"`levels` is {list(self.levels)}; the ids of a frame must fit into 64 bits together.")
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
        encoder_depths (`list[int]`): Convolution units in each encoder stage.
        encoder_layers (`list[int]`): Transformer layers before and after the inner down-sampling; one
            number where `compress_rate` is 1.
        compress_rate (`int`): Inner down-sampling r between the encoder's transformers.
        decoder_rates (`list[int]`): Up-sampling factors; their product is that of `encoder_rates`.
        decoder_dims (`list[int]`): Channels of the decoder's stages, one more than there are rates.
        decoder_depths (`list[int]`): Convolution units before each up-sampling.
        decoder_layers (`list[int]`): Transformer layers at the id rate and after the inner up-sampling;
            one number where `compress_rate` is 1.
        num_attention_heads (`int`): Heads of a quarter of `feature_dim` each.
        attention (`str`): `"block"` (published): a step sees its own block of W ids and the one before it;
            `"sliding"`: itself and the steps before it that lie within W ids.
        attention_window (`int`): W, in ids.
        analysis (`str`): From samples to features: `"waveform"` (published), by convolutions, or `"spectral"`, by
            log-mel spectrograms; of `encoder_rates` only the product matters then.
        analysis_depth (`int`): ConvNeXt blocks of the spectral analysis.
        synthesis (`str`): From features to samples: `"waveform"` (published), by convolutions and interpolations, or
            `"spectral"`, by an inverse Fourier transform; of `decoder_rates` only the product matters then.
        synthesis_dim (`int`): Channels of the spectral synthesis.
        synthesis_depth (`int`): ConvNeXt blocks of the spectral synthesis.
        synthesis_lookahead (`int`): Of the seven steps that each convolution of the spectral synthesis sees, those
            after its own.
        quantizer (`str`): `"super_fsq"` (L3AC) or `"fsq"` (SQCodec; Mentzer et al., arXiv 2309.15505).
        levels (`list[int]`): Odd number of levels of each latent dimension.
        pad_to_window (`bool`): The network sees zeros up to a whole attention window (SQCodec) instead of
            up to a whole id.
        tconv (`bool`): The encoder's first layer sees envelopes of the waveform beside it (TConv of the paper);
            without, an ablation, it is a convolution of 7 samples.
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
    quantizer: str = "super_fsq"
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    pad_to_window: bool = False
    tconv: bool = True

    @property
    def hop_length(self) -> int:
        """Samples for each id."""
        return math.prod(self.encoder_rates) * self.compress_rate

    @property
    def fine_hop(self) -> int:
        """Samples for each fine step: what lies between the convolutions or spectra and the transformers."""
        return self.hop_length // self.compress_rate

    @property
    def attention_span(self) -> int:
        """The attention window W."""
        return self.attention_window

    def validate_architecture(self) -> None:
        """Refuse values that describe no network; called whenever a config is made.

        Raises:
            ValueError: names the field, its value and what it must be.
        """
        super().validate_architecture()
        self._check_at_least_one("feature_dim", "compress_rate", "num_attention_heads", "attention_window")
        for side in ("encoder", "decoder"):
            for field in (f"{side}_rates", f"{side}_dims", f"{side}_depths", f"{side}_layers"):
                values = getattr(self, field)
                lowest = 0 if field.endswith("depths") else 1
                if not values or min(values) < lowest:
                    raise ValueError(f"`{field}` is {list(values)}; give whole numbers of at least {lowest}.")
            rates, dims = getattr(self, f"{side}_rates"), getattr(self, f"{side}_dims")
            if len(dims) != len(rates) + 1:
                raise ValueError(
                    f"`{side}_dims` has {len(dims)} entries; it must have one more than `{side}_rates` ({len(rates)})."
                )
            stacks = 1 if self.compress_rate == 1 else 2
            if len(getattr(self, f"{side}_layers")) != stacks:
                raise ValueError(
                    f"`{side}_layers` is {list(getattr(self, f'{side}_layers'))}; "
                    f"it must have {stacks} entries where `compress_rate` is {self.compress_rate}."
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
        if self.feature_dim % 4:
            raise ValueError(f"`feature_dim` is {self.feature_dim}; it must be a multiple of 4.")
        for field, values in (
            ("quantizer", QUANTIZERS),
            ("attention", ATTENTIONS),
            ("analysis", ENDS),
            ("synthesis", ENDS),
        ):
            if getattr(self, field) not in values:
                raise ValueError(f"`{field}` is {getattr(self, field)!r}; it must be one of {', '.join(values)}.")
        self._check_spectral_ends()
        if any(level % 2 == 0 for level in self.levels):
            raise ValueError(f"`levels` is {list(self.levels)}; every entry must be an odd number of at least 3.")
        if self.num_quantizers > 1 and self.quantizer != "super_fsq":
            raise ValueError(
                f"`num_quantizers` is {self.num_quantizers}; only the levels of `quantizer` 'super_fsq' decompose."
            )

    def _check_spectral_ends(self) -> None:
        self._check_at_least_one("synthesis_dim")
        for field in ("analysis_depth", "synthesis_depth"):
            if getattr(self, field) < 0:
                raise ValueError(f"`{field}` is {getattr(self, field)}; it must be at least 0.")
        if not 0 <= self.synthesis_lookahead <= 3:
            raise ValueError(f"`synthesis_lookahead` is {self.synthesis_lookahead}; it must be 0, 1, 2 or 3.")
        if "spectral" not in (self.analysis, self.synthesis):
            return
        if self.fine_hop % 2 or self.fine_hop > SHORTEST_WINDOW * self.sampling_rate:
            raise ValueError(
                f"The product of `encoder_rates` is {self.fine_hop}; with a spectral end it must be even and at most "
                f"{round(SHORTEST_WINDOW * self.sampling_rate)} samples, the shorter window."
            )


__all__ = ["CodecConfig", "L3ACConfig"]
