"""`ExtendedCausalLMConfig`: configuration of a language model of text that also reads and writes ids."""

import copy
import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import AutoConfig

from .hub import refuse_remote_code
from .language_model import EMBEDDING_MODES, HEAD_MODES, check_mode


@strict
class ExtendedCausalLMConfig(PreTrainedConfig):
    r"""Configuration of an `ExtendedCausalLM`.

    Args:
        text_config (`PreTrainedConfig` or `dict`, *optional*): Configuration of the language model of text; by default
            that of a Llama. Its `vocab_size` is the token of the id 0.
        levels (`list[int]`): Number of levels of each digit of an id, `config.frame_levels` of the codec.
        embedding (`str`): Mode of `FSQEmbedding`.
        head (`str`): Mode of `FSQHead`.

    Raises:
        ValueError: A mode is unknown.
    """

    model_type = "l3ac_extended_lm"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012 - as transformers declares it
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012

    text_config: dict | PreTrainedConfig | None = None
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    embedding: str = "codes"
    head: str = "split"

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Always a ValueError that says how others load this class, see `hub.refuse_remote_code`."""
        refuse_remote_code(cls)

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the modes, and make the configuration of the language model of text."""
        check_mode(self.embedding, EMBEDDING_MODES)
        check_mode(self.head, HEAD_MODES)
        if not isinstance(self.text_config, PreTrainedConfig):
            values = {"model_type": "llama", **(self.text_config or {})}
            self.text_config = AutoConfig.for_model(**values)
        super().__post_init__(**kwargs)

    @property
    def audio_offset(self) -> int:
        """Token of the id 0."""
        return self.text_config.vocab_size  # type: ignore[union-attr]

    @property
    def vocab_size(self) -> int:
        """Number of text tokens and ids."""
        return self.audio_offset + math.prod(self.levels)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The configuration of the language model of text with the whole vocabulary, as `generate` needs it."""
        config: Any = copy.copy(self.text_config)
        config.vocab_size = self.vocab_size
        return config


__all__ = ["ExtendedCausalLMConfig"]
