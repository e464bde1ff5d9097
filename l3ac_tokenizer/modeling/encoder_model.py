"""`CodecEncoderModel`: the encoder and quantizer of a checkpoint, read without its decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, TransformersKwargs
from transformers.utils.hub import cached_file, get_checkpoint_shard_files
from typing_extensions import Unpack

from .encoding import CodecEncoding
from .outputs import CodecEncoderOutput

_WHERE = ("cache_dir", "revision", "subfolder", "token", "local_files_only")
"""Arguments of `from_pretrained` that say where the files are."""


class CodecEncoderModel(CodecEncoding):
    """Base class of encoders without a decoder, for jobs that only encode.

    `from_pretrained` takes the checkpoint of a whole codec and reads the encoder alone: the ids are the same, the
    memory is the encoder's. `weights_digest` is that of the codec, so that its decoder is found again: the decoder's
    tensors are read from the checkpoint for it, one at a time.
    """

    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]  # noqa: RUF012
    _where: dict[str, Any] | None = None
    """Place of the files of the checkpoint, as arguments of `cached_file`; None: it was not loaded from one."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the encoder of a checkpoint; `CodecEncoderModel.from_pretrained` loads that of any family.

        Raises:
            ValueError: The checkpoint is of a model that is not a codec of this package.
            OSError: The checkpoint does not exist.
        """
        where = {name: kwargs[name] for name in _WHERE if name in kwargs}
        if cls is CodecEncoderModel:
            from transformers import AutoConfig

            config = kwargs.get("config")
            if config is None:
                config = AutoConfig.from_pretrained(pretrained_model_name_or_path, trust_remote_code=False, **where)
            family = next((each for each in cls.__subclasses__() if type(config) is each.config_class), None)
            if family is None:
                raise ValueError(
                    f"{pretrained_model_name_or_path} holds a {config.model_type} model; give a codec of this package."
                )
            return family.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        cls._check_weights_are_there(pretrained_model_name_or_path, kwargs)
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with `output_loading_info`
        commit = getattr(model.config, "_commit_hash", None)
        model._where = where | ({} if commit is None else {"revision": commit})
        return loaded

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        return_dict: bool | None = None,
        audio_scales: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CodecEncoderOutput:
        """Encode audio to ids, see `encode`; as in `forward` of the codec, there is a mask only where one is given.

        `kwargs` are common arguments of transformers models; ignored.
        """
        output = self.encode(input_values, padding_mask, return_dict=True, audio_scales=audio_scales)
        if padding_mask is None:
            output = CodecEncoderOutput(output.audio_codes, latents=output.latents, audio_scales=output.audio_scales)
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    def weights_digest(self) -> str:
        """`weights_digest` of the codec with this encoder and the decoder of the checkpoint.

        Raises:
            ValueError: The model was not loaded from the checkpoint of a whole codec.
            OSError: The checkpoint is not there anymore.
        """
        from transformers import AutoModel

        with torch.device("meta"):
            codec = AutoModel.from_config(self.config, trust_remote_code=False)
        own = self._encoder_tensors()
        stored = self._stored_names()
        names = {name for name, _ in codec.named_parameters()} | own.keys()
        if names - own.keys() - stored.keys():
            raise ValueError(
                f"{type(self).__name__} has no `weights_digest` without the weights of a decoder: load it from the "
                "checkpoint of a whole codec."
            )

        def tensors() -> Iterator[tuple[str, Tensor]]:
            for name in sorted(names):
                if name in own:
                    yield name, own[name]
                else:
                    with safe_open(stored[name], "pt") as file:
                        yield name, file.get_tensor(name)

        return self._digest(tensors())

    def _stored_names(self) -> dict[str, str]:
        """Tensors in the checkpoint, and the file of each."""
        if self._where is None:
            return {}
        source = str(self.name_or_path)
        path = cached_file(source, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False, **self._where)
        if path is None:
            index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **self._where)
            paths, _ = get_checkpoint_shard_files(source, index, **self._where)
        else:
            paths = [path]
        names = {}
        for path in paths:
            with safe_open(path, "pt") as file:
                names.update(dict.fromkeys(file.keys(), path))
        return names
