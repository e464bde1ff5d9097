"""Input and output layers of language models over ids, without a row for each of up to 250,047 ids.

An id is L digits in mixed radix (see `quantization`): `FSQEmbedding` embeds the digits, and `FSQHead` predicts them one
after another by the chain rule. With 256 features and the levels of `l3ac-1k`, the two have 0.1 million parameters; an
embedding table and a softmax over all ids have 60 million.

Axes: D features of the language model, L digits, G groups of digits, each predicted at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .quantization import check_ids, digits_to_values, ids_to_digits, join_ids, split_ids, split_sizes

EMBEDDING_MODES = ("codes", "digits", "table", "table_from_codes")
HEAD_MODES = ("chained", "independent", "split", "full")

IGNORED_ID = -100
"""Target that `FSQHead.loss` ignores, as in `torch.nn.CrossEntropyLoss` and transformers."""


class FSQEmbedding(nn.Module):
    """Embedding of ids; like `nn.Embedding`, it is initialized to variance 1 over uniform ids.

    Args:
        levels: Number of levels of each digit, `model.config.levels`.
        dim: Number of features D.
        mode: `"codes"` is a linear map of the L quantized values in [-1, 1], so ids that sound alike start with similar
            features. `"digits"` sums one table for each digit, without an order of levels. `"table"` has a row for each
            id. `"table_from_codes"` is such a table, initialized from the linear map.

    Raises:
        ValueError: `mode` is not one of these.
    """

    def __init__(self, levels: Sequence[int], dim: int, mode: str = "codes"):
        super().__init__()
        check_mode(mode, EMBEDDING_MODES)
        self.levels = tuple(levels)
        self.mode = mode
        codebook_size = math.prod(levels)
        if mode == "codes":
            self.codes = nn.Linear(len(self.levels), dim)
        elif mode == "digits":
            self.digits = nn.EmbeddingBag(sum(levels), dim, mode="sum")
        else:
            self.table = nn.Embedding(codebook_size, dim)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights."""
        if self.mode == "codes":
            _draw_linear_map(self.codes, self.levels)
        elif self.mode == "digits":
            nn.init.normal_(self.digits.weight, std=len(self.levels) ** -0.5)
        elif self.mode == "table":
            self.table.reset_parameters()
        else:
            linear = nn.Linear(len(self.levels), self.table.embedding_dim)
            _draw_linear_map(linear, self.levels)
            self.table.weight.copy_(linear(self._values(torch.arange(self.table.num_embeddings))))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (…) → features (…, D).

        Raises:
            ValueError: An id is not below the codebook size, the product of `levels`.
        """
        check_ids(ids, math.prod(self.levels))
        if self.mode == "codes":
            weight = next(self.codes.parameters(), None)  # none in a quantized layer, which takes float32
            return self.codes(self._values(ids).to(torch.float32 if weight is None else weight.dtype))
        if self.mode == "digits":
            first_rows = torch.tensor([0, *itertools.accumulate(self.levels[:-1])], device=ids.device)
            rows = ids_to_digits(ids, self.levels) + first_rows  # (…, L)
            return self.digits(rows.reshape(-1, len(self.levels))).reshape(*ids.shape, self.digits.embedding_dim)
        return self.table(ids)

    def _values(self, ids: Tensor) -> Tensor:
        return digits_to_values(ids_to_digits(ids, self.levels), self.levels)


class FSQHead(nn.Module):
    """Distribution of the next id given the features h of a language model.

    All modes compute p(id | h) = ∏ p(group g | h, groups before g), with different groups of digits:

    - `"chained"`: each digit given the previous ones, with L small softmaxes. The value of a group is added to a shared
      hidden layer that conditions the next groups, as in NADE (Larochelle & Murray, 2011). It can learn any
      distribution.
    - `"split"`: the same with the two groups of `split_ids` (343 × 343).
    - `"independent"`: each digit given h alone, by a linear softmax, as if the digits of an id were independent.
    - `"full"`: one linear softmax over all ids, the usual head of a language model.

    Args:
        dim: Number of features D.
        levels: Number of levels of each digit, `model.config.levels`.
        mode: One of the above.

    Raises:
        ValueError: `mode` is not one of these, or is `"split"` for a single digit.
    """

    def __init__(self, dim: int, levels: Sequence[int], mode: str = "chained"):
        super().__init__()
        check_mode(mode, HEAD_MODES)
        self.levels = tuple(levels)
        self.mode = mode
        self.groups = {"split": 2, "full": 1}.get(mode, len(levels))
        sizes = split_sizes(levels, self.groups)
        self.conditioned = mode in ("chained", "split")
        if self.conditioned:
            self.hidden = nn.Linear(dim, dim)
            self.conditions = nn.ModuleList(nn.Embedding(size, dim) for size in sizes[:-1])
        self.readouts = nn.ModuleList(nn.Linear(dim, size) for size in sizes)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for layer in (layer for layer in self.modules() if isinstance(layer, (nn.Linear, nn.Embedding))):
            layer.reset_parameters()

    def log_prob(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Log-probability (…), in nats and float32, of ids (…) given features (…, D).

        Raises:
            ValueError: An id is not below the codebook size, the product of `levels`.
        """
        groups = split_ids(ids.flatten(), self.levels, self.groups).unbind(-1)
        state = self._start(hidden.reshape(-1, hidden.shape[-1]))
        total = torch.zeros(ids.numel(), device=hidden.device)
        for index, group in enumerate(groups):
            total = total - F.cross_entropy(self._logits(state, index), group, reduction="none")
            state = self._condition(state, index, group)
        return total.reshape(ids.shape)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (…, C), in nats and float32, of all C ids given features (…, D).

        The last group costs C · D multiplications, as a softmax layer over all ids does, but reads far fewer weights.
        It has a state of D features for each value of the groups before it: 343 for `"split"` and 16,807 for
        `"chained"` with six digits of 7 levels.
        """
        state = self._start(hidden.reshape(-1, 1, hidden.shape[-1]))  # (M, P, D): given each of P beginnings of an id
        total = torch.zeros(len(state), 1, device=hidden.device)
        for index in range(self.groups):
            last = self._logits(state, index).log_softmax(dim=-1)  # (M, P, size), or (M, 1, size) if independent
            total = (total[..., None] + last).transpose(1, 2).flatten(1)  # the first group is fastest
            if self.conditioned and index < len(self.conditions):
                values = torch.arange(last.shape[-1], device=hidden.device)
                state = (state[:, None] + self.conditions[index](values)[:, None]).flatten(1, 2)
        return total.reshape(*hidden.shape[:-1], math.prod(self.levels))

    def loss(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Mean of −log p in nats over the ids (…) that are not `IGNORED_ID`, given features (…, D).

        Raises:
            ValueError: One of these ids is not below the product of `levels`.
        """
        counted = ids != IGNORED_ID
        return -self.log_prob(hidden[counted], ids[counted]).mean()

    @torch.no_grad()
    def sample(
        self, hidden: Tensor, temperature: float = 1.0, top_p: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Sample ids (…), int64, given features (…, D).

        Temperature and `top_p` apply to each softmax in turn. A chained head samples each digit from the nucleus of
        *that digit* given the previous ones, so the candidate ids are not the smallest set with probability `top_p`,
        as they are for `"full"` only. L nuclei keep as little as `top_p` ** L of the probability: choose `top_p` closer
        to 1 than for a softmax over words. Likewise, temperature 0 takes the most probable digit at each step, which
        does not always give the most probable id.

        Args:
            hidden: Features (…, D).
            temperature: Divisor of the logits; 0 takes the most probable value.
            top_p: Sample from the most probable values that together reach this probability (nucleus sampling,
                Holtzman et al., 2020).
            generator: Random number generator on the device of `hidden`.

        Raises:
            ValueError: `temperature` is negative, or `top_p` not in (0, 1].
        """
        if temperature < 0:
            raise ValueError(f"`temperature` is {temperature}; it must be at least 0.")
        if not 0 < top_p <= 1:
            raise ValueError(f"`top_p` is {top_p}; it must lie in (0, 1].")
        state = self._start(hidden.reshape(-1, hidden.shape[-1]))
        groups = []
        for index in range(self.groups):
            group = _draw(self._logits(state, index), temperature, top_p, generator)
            state = self._condition(state, index, group)
            groups.append(group)
        return join_ids(torch.stack(groups, dim=-1), self.levels, self.groups).reshape(hidden.shape[:-1])

    def _start(self, hidden: Tensor) -> Tensor:
        """Features (M, D) → state (M, D) that predicts the first group."""
        return self.hidden(hidden) if self.conditioned else hidden

    def _logits(self, state: Tensor, index: int) -> Tensor:
        """State (M, D) → logits (M, size of the group), float32."""
        return self.readouts[index](F.silu(state) if self.conditioned else state).float()

    def _condition(self, state: Tensor, index: int, group: Tensor) -> Tensor:
        """State (M, D) → state (M, D) given the values (M,) of group `index`."""
        if not self.conditioned or index == len(self.conditions):
            return state
        return state + self.conditions[index](group)


def _draw_linear_map(linear: nn.Linear, levels: Sequence[int]) -> None:
    """Draw the weights of a layer from quantized values (…, L) to features (…, D) of variance 1 over uniform ids."""
    for digit, level in enumerate(levels):
        variance = (level + 1) / (3 * (level - 1))  # of `level` evenly spaced values in [-1, 1]
        nn.init.normal_(linear.weight[:, digit], std=(len(levels) * variance) ** -0.5)
    nn.init.zeros_(linear.bias)


def _draw(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator | None) -> Tensor:
    """Sample values (M,) from the softmax of logits (M, C) with temperature, within its nucleus."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits / temperature).softmax(dim=-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered
        kept = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, kept)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def check_mode(mode: str, modes: Sequence[str]) -> None:
    """Check that a mode is one of those that a layer has.

    Raises:
        ValueError: It is not.
    """
    if mode not in modes:
        raise ValueError(f"`mode` is {mode!r}; it must be one of {', '.join(modes)}.")
