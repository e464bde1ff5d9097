"""`TAAEConfig`: configuration of the transformer codec of arXiv 2411.19842."""

import math

from huggingface_hub.dataclasses import strict

from .configuration import CodecConfig
from .hub import takes_bundled_names


@takes_bundled_names
@strict
class TAAEConfig(CodecConfig):
    r"""Configuration of a [`TAAEModel`]; the defaults are `taae-950m` at 400 bit/s.

    Args:
        hidden_size (`int`): Width D of all transformers.
        num_attention_heads (`int`): Number of attention heads; a divisor of D.
        patch_size (`int`): Samples in a patch, the time step of the first block.
        depths (`list[int]`): Transformer layers of each encoder block; the decoder mirrors them.
        strides (`list[int]`): Down-sampling rates before each encoder block, each 1 or an even number.
        attention_window (`list[int]`): Number of time steps before and after its own that a query sees in each block.
        causal (`bool`): Whether convolutions are causal (App. A.4); the attention window must be causal, too, such as
            `[63, 0]`. Names and shapes of the weights are the same, so a causal network can be fine-tuned from another.
        training_levels (`list[int]`): Numbers of levels, of which each training item draws one.
        clip_codes (`bool`): Whether quantized values beyond ±1 are decoded as ±1; ids of several residual stages can
            express them, but no encoder does.
    """

    model_type = "taae"

    hidden_size: int = 1024
    num_attention_heads: int = 8
    patch_size: int = 320
    depths: list[int] | tuple[int, ...] = (8, 20)
    strides: list[int] | tuple[int, ...] = (1, 2)
    attention_window: list[int] | tuple[int, ...] = (63, 64)
    causal: bool = False
    levels: list[int] | tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    training_levels: list[int] | tuple[int, ...] = (5, 9, 17)
    clip_codes: bool = False

    @property
    def hop_length(self) -> int:
        """Number of samples in a frame."""
        return self.patch_size * math.prod(self.strides)

    @property
    def attention_span(self) -> int:
        """Length of the attention window in time steps, including the one of the query itself."""
        return sum(self.attention_window) + 1

    def validate_architecture(self) -> None:
        """Check all values; called whenever a configuration is created.

        Raises:
            ValueError: A value is invalid; the message names the field and what it must be.
        """
        super().validate_architecture()
        self._check_at_least_one("hidden_size", "num_attention_heads", "patch_size")
        if not self.depths or min(self.depths) < 0 or len(self.depths) != len(self.strides):
            raise ValueError(
                f"`depths` is {list(self.depths)}; give the number of layers for each of the "
                f"{len(self.strides)} `strides`."
            )
        if any(stride != 1 and (stride < 2 or stride % 2) for stride in self.strides):
            raise ValueError(f"`strides` is {list(self.strides)}; every entry must be 1 or an even number.")
        if self.hidden_size % self.num_attention_heads or self.hidden_size // self.num_attention_heads < 32:
            raise ValueError(
                f"`hidden_size` is {self.hidden_size}; it must be a multiple of `num_attention_heads` "
                f"({self.num_attention_heads}), with at least 32 channels for each head."
            )
        if len(self.attention_window) != 2 or self.attention_window[0] < 1 or self.attention_window[1] < 0:
            raise ValueError(
                f"`attention_window` is {list(self.attention_window)}; give time steps before (1 or more) and after."
            )
        self._check_hop()
        if self.causal and self.attention_window[1]:
            raise ValueError(
                f"`attention_window` is {list(self.attention_window)}; a causal network needs a window like [63, 0]."
            )
        if not self.training_levels or min(self.training_levels) < 2:
            raise ValueError(f"`training_levels` is {list(self.training_levels)}; every entry must be at least 2.")


__all__ = ["TAAEConfig"]
