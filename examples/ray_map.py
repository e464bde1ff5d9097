"""Encode audio in a Ray Data pipeline of one's own, with `map_batches`: folder of audio → Parquet.

python examples/ray_map.py MY_CLIPS ids/                     # --device cuda: four workers share a GPU
"""

import argparse
from typing import Any

import ray

from l3ac_tokenizer import ClipEncoder, CodecEncoderModel


class Encode:
    """One worker: it loads the codec once, and encodes many batches."""

    def __init__(self, model: str, device: str) -> None:
        self.encoder = ClipEncoder(CodecEncoderModel.from_pretrained(model), device=device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Replace audio by ids."""
        clips = self.encoder(batch.pop("bytes"), names=batch["path"])
        return {**batch, "ids": [clip.ids.tolist() for clip in clips], "error": [clip.error for clip in clips]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clips", help="folder of audio")
    parser.add_argument("output", help="folder for Parquet files with the columns path, ids and error")
    parser.add_argument("--model", default="l3ac-1k-light")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    ray.data.read_binary_files(options.clips, include_paths=True).map_batches(
        Encode,
        fn_constructor_args=[options.model, options.device],
        batch_size=16,
        num_gpus=0.25 if options.device == "cuda" else None,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8),
    ).write_parquet(options.output)
