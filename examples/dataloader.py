"""A DataLoader of padded batches: each worker extracts single clips, and the collator pads them.

python examples/dataloader.py recordings/*.flac
"""

import sys

import soundfile
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import AutoFeatureExtractor, AutoModel, BatchFeature, DataCollatorWithPadding

from l3ac_tokenizer import CodecFeatureExtractor


class Recordings(Dataset):
    """Outputs of the extractor, one for each file."""

    def __init__(self, paths: list[str], extractor: CodecFeatureExtractor) -> None:
        self.paths, self.extractor = paths, extractor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> BatchFeature:
        audio, rate = soundfile.read(self.paths[index])
        return self.extractor(audio, sampling_rate=rate)


@torch.inference_mode()
def main(*paths: str) -> None:
    """Print the ids of every clip, batch by batch."""
    extractor, model = (kind.from_pretrained("l3ac-1k-light") for kind in (AutoFeatureExtractor, AutoModel))
    recordings, collate = Recordings(list(paths), extractor), DataCollatorWithPadding(extractor)
    for batch in DataLoader(recordings, batch_size=4, num_workers=2, collate_fn=collate):
        print(*model.encode(**batch).to_list(), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
