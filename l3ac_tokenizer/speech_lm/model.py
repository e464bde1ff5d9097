"""`SpeechLM`: a Llama of transformers that reads and predicts ids.

Axes: B batch, N ids, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutput

from ..language_model import FSQEmbedding, FSQHead


@strict
class SpeechLMConfig(LlamaConfig):
    """Configuration of a Llama over ids with its embedding and head; its own vocabulary is a single start token.

    Attributes:
        levels: of each FSQ dimension of the codec.
        embedding: mode of `FSQEmbedding`.
        head: mode of `FSQHead`.
        weights_digest: of the codec that made the training ids; empty: unknown.
        level_lufs: loudness to which the training audio was leveled; None: it kept its level.
    """

    model_type = "l3ac_speech_lm"

    vocab_size: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = None
    levels: list[int] | tuple[int, ...] = (7, 7, 7, 7, 7, 7)
    embedding: str = "codes"
    head: str = "chained"
    weights_digest: str = ""
    level_lufs: float | None = None


_LAYER_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
)
"""Fields of `LlamaConfig` that decide what its layers are and compute."""


class SpeechLM(LlamaForCausalLM):
    """Llama over ids (B, N), which predicts each id from a learned start and the previous ids."""

    config: SpeechLMConfig
    config_class = SpeechLMConfig
    _tied_weights_keys = {}  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: SpeechLMConfig):
        super().__init__(config)
        self.id_embedding = FSQEmbedding(config.levels, config.hidden_size, config.embedding)
        self.lm_head = FSQHead(config.hidden_size, config.levels, config.head)
        self.post_init()

    @classmethod
    def from_text_model(cls, name: str, **fields: Any) -> SpeechLM:
        """A model with the layers of a Llama of transformers that was trained on text; embedding and head are new.

        The start of Hassid et al., 2023, "Textually pretrained speech language models".

        Args:
            name: The text model: a folder, or a name on the hub.
            fields: Of `SpeechLMConfig`, beside those that make the layers.

        Raises:
            OSError: The model cannot be found.
            ValueError: It is not a Llama.
        """
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if config.model_type != "llama":
            raise ValueError(f"{name} is a model of type {config.model_type!r}; give a Llama.")
        text = LlamaModel.from_pretrained(name, dtype=torch.float32)
        model = cls(SpeechLMConfig(**{key: getattr(config, key) for key in _LAYER_FIELDS}, **fields))
        layers = {key: value for key, value in text.state_dict().items() if not key.startswith("embed_tokens.")}
        missing, unexpected = model.model.load_state_dict(layers, strict=False)
        assert missing == ["embed_tokens.weight"] and not unexpected
        return model

    def features(self, ids: Tensor) -> Tensor:
        """Ids (B, N) → features (B, N, D), each computed from the previous ids."""
        return self.model(inputs_embeds=self._embed(ids[:, :-1])).last_hidden_state

    def forward(self, ids: Tensor, labels: Tensor) -> CausalLMOutput:
        """Return the loss in nats per id; `labels` are `ids` with `IGNORED_ID` at padding."""
        return CausalLMOutput(loss=self.lm_head.loss(self.features(ids), labels))

    def continue_ids(
        self, ids: Tensor, count: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
    ) -> Tensor:
        """Ids (B, N) → `count` sampled ids (B, count) that continue them."""
        return torch.cat(list(self.draw_ids(ids, count, temperature, top_p, seed)), dim=1)

    @torch.no_grad()
    def draw_ids(
        self, ids: Tensor, count: int, temperature: float = 1.0, top_p: float = 1.0, seed: int = 0
    ) -> Iterator[Tensor]:
        """Ids (B, N) → the next id (B, 1) of each row, sampled `count` times, each as soon as it is drawn."""
        generator = torch.Generator(self.device).manual_seed(seed)
        cache = DynamicCache(config=self.config)
        inputs = self._embed(ids)
        for _ in range(count):
            features = self.model(inputs_embeds=inputs, past_key_values=cache, use_cache=True).last_hidden_state
            drawn = self.lm_head.sample(features[:, -1:], temperature, top_p, generator)
            yield drawn
            inputs = self.id_embedding(drawn)

    def _embed(self, ids: Tensor) -> Tensor:
        """Ids (B, N) → features (B, N + 1, D), including the start."""
        start = self.model.embed_tokens(torch.zeros(len(ids), 1, dtype=torch.long, device=ids.device))
        return torch.cat([start, self.id_embedding(ids)], dim=1)
