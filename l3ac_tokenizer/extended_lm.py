"""`extend_causal_lm`: ids in an existing causal language model, by a factorized embedding and head beside the text's.

The next token x given features h is of text or of audio, and p(x | h) is normalized over both together:

    p(text token t) = exp(z_t) / Z,    p(id i) = exp(g) / Z · p(i | h),    Z = Σ_t exp(z_t) + exp(g)

with the text logits z, one further logit g for audio, and p(i | h) of an `FSQHead`. So z_t and g + log p(i | h) are
logits of the whole vocabulary, whose softmax is p, and the loss needs one softmax over the text and a few small ones.

Axes: B sequences, N tokens, D features, V text tokens, C ids.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.utils.generic import can_return_tuple

from .configuration_extended_lm import ExtendedCausalLMConfig
from .hub import refuse_remote_code
from .language_model import IGNORED_ID, FSQEmbedding, FSQHead

if TYPE_CHECKING:
    from .processing import L3ACProcessor


class ExtendedCausalLM(PreTrainedModel, GenerationMixin):
    """Causal language model of text and ids; `extend_causal_lm` makes it, `AutoModelForCausalLM` loads it.

    Args:
        config: Configuration.
        language_model: Language model of text; None: a random one.
    """

    config: ExtendedCausalLMConfig
    config_class = ExtendedCausalLMConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Always a ValueError that says how others load this class, see `hub.refuse_remote_code`."""
        refuse_remote_code(cls)

    def __init__(self, config: ExtendedCausalLMConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        dim = language_model.config.get_text_config().hidden_size
        self.language_model: Any = language_model
        self.audio_embedding = FSQEmbedding(config.levels, dim, config.embedding)
        self.audio_gate = nn.Linear(dim, 1)
        self.audio_head = FSQHead(dim, config.levels, config.head)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (FSQEmbedding, FSQHead)):
            module.reset_parameters()
        elif module is self.audio_gate:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Tokens (B, N) → logits (B, N, V + C) in float32 or, with labels, the loss.

        Args:
            input_ids: Tokens (B, N) of text and ids.
            attention_mask: Mask (B, N), 0 at padding.
            position_ids: Positions (B, N).
            inputs_embeds: Features (B, N, D) instead of `input_ids`.
            labels: Tokens (B, N) to predict, which are shifted here, and −100 where there is none. The output then has
                no logits, which would take C values for each token.
            logits_to_keep: Compute the logits of the last ones of the tokens only; 0: all.
            num_items_in_batch: Divisor of the loss, as `Trainer` gives it; None: the number of labels.
            output_hidden_states: Return the features of all layers.
            kwargs: Further arguments of the language model of text, e.g. its cache.

        Raises:
            ValueError: Not exactly one of `input_ids` and `inputs_embeds` is given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either `input_ids` or `inputs_embeds`.")
        if input_ids is not None:
            inputs_embeds = self._embed(input_ids)
        output = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep if labels is None else 0,
            output_hidden_states=True,
            return_dict=True,
            **kwargs,
        )
        features, text_logits = output.hidden_states[-1], output.logits
        values = {**output, "logits": None}
        if labels is not None:
            values["loss"] = self._loss(features, text_logits, labels, num_items_in_batch)
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            values["logits"] = self._logits(features[:, kept], text_logits)
        if not output_hidden_states:
            values["hidden_states"] = None
        return type(output)(**values)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of text."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of text."""
        self.language_model.set_input_embeddings(value)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Refused, since the ids follow the text tokens.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "The tokens of ids begin right after those of text, so text cannot grow: make the processor with room for "
            "more tokens (`audio_offset`), and extend the language model again."
        )

    def _embed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N) → features (B, N, D)."""
        offset = self.config.audio_offset
        is_id = tokens >= offset
        text = self.get_input_embeddings()(tokens.masked_fill(is_id, 0))
        audio = self.audio_embedding((tokens - offset).clamp(min=0))
        return torch.where(is_id[..., None], audio.to(text.dtype), text)

    def _logits(self, features: Tensor, text_logits: Tensor) -> Tensor:
        """Features (B, N, D) and text logits (B, N, V) → logits (B, N, V + C), float32."""
        audio = self.audio_gate(features).float() + self.audio_head.log_probs(features)
        return torch.cat([text_logits.float(), audio], dim=-1)

    def _loss(
        self, features: Tensor, text_logits: Tensor, labels: Tensor, num_items_in_batch: int | Tensor | None
    ) -> Tensor:
        """Mean of −log p in nats over the tokens that the labels (B, N) name."""
        offset = self.config.audio_offset
        targets = labels[:, 1:]
        counted = targets != IGNORED_ID
        features, text_logits, targets = features[:, :-1][counted], text_logits[:, :-1][counted], targets[counted]
        is_id = targets >= offset
        logits = torch.cat([text_logits, self.audio_gate(features)], dim=-1).float()
        total = F.cross_entropy(logits, targets.clamp(max=offset), reduction="sum")
        total = total - self.audio_head.log_prob(features[is_id], targets[is_id] - offset).sum()
        return total / (len(targets) if num_items_in_batch is None else num_items_in_batch)


def extend_causal_lm(
    lm: PreTrainedModel, processor: L3ACProcessor, embedding: str = "codes", head: str = "split"
) -> ExtendedCausalLM:
    """Extend a causal language model by the ids of a processor's codec.

    ```python
    >>> processor = L3ACProcessor(extractor, tokenizer, audio_tokenizer=codec)
    >>> lm = extend_causal_lm(AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B"), processor)
    >>> lm(**processor.encode(parts, return_tensors="pt", output_labels=True)).loss.backward()
    ```

    The result has the weights of `lm`, which becomes a part of it; the rows of its embedding are made as many as there
    are text tokens before the first id. The layers of audio are random, of the dtype and on the device of `lm`. What it
    gives for text is as before, but for the share of probability that audio takes.

    Args:
        lm: Causal language model of transformers.
        processor: Processor with an `audio_tokenizer`; its vocabulary becomes that of the model.
        embedding: Mode of [`FSQEmbedding`].
        head: Mode of [`FSQHead`]. `"split"` gives `generate` the logits of all ids fastest.

    Raises:
        TypeError: `lm` is not a causal language model.
        ValueError: The processor has no codec, its tokenizer has grown into the range of audio, the model has been
            extended before, or a mode is unknown; nothing was changed.
    """
    if isinstance(lm, ExtendedCausalLM):
        raise ValueError("The language model has been extended before: extend the one of text.")
    if not isinstance(lm, GenerationMixin) or lm.get_output_embeddings() is None or lm.config.is_encoder_decoder:
        raise TypeError(f"`lm` is a {type(lm).__name__}; give one that `AutoModelForCausalLM` loads.")
    codec = processor.audio_tokenizer
    if codec is None:
        raise ValueError("The processor has no codec, whose levels the layers need: make it with `audio_tokenizer`.")
    processor.vocabulary.check_text_size()
    text_config = copy.deepcopy(lm.config)  # a configuration resets the choice of attention in those that it holds
    text_config.vocab_size = processor.audio_offset
    values: dict[str, Any] = {"dtype": lm.dtype, "attn_implementation": lm.config._attn_implementation}
    config = ExtendedCausalLMConfig(
        text_config=text_config,
        levels=codec.config.frame_levels,
        embedding=embedding,
        head=head,
        **values,
    )
    if lm.config.vocab_size != processor.audio_offset:
        lm.resize_token_embeddings(processor.audio_offset)
    for module in lm.modules():  # otherwise transformers would draw the weights of a new embedding again
        module._is_hf_initialized = True  # type: ignore[assignment]
    model = ExtendedCausalLM(config, lm)
    for layer in (model.audio_embedding, model.audio_gate, model.audio_head):
        layer.to(device=lm.device, dtype=lm.dtype)
    text: Any = lm.get_input_embeddings()
    with torch.no_grad():  # features of ids as large as those of text
        for weight in model.audio_embedding.parameters():
            weight.mul_(text.weight.float().std())
    model.generation_config = lm.generation_config
    return model.train(lm.training)


__all__ = ["ExtendedCausalLM", "extend_causal_lm"]
