"""Model cards on the hub: metadata by which it finds and labels a codec, and the lines that load it."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import ModelCard

METADATA = {
    "library_name": "l3ac_tokenizer",
    "pipeline_tag": "audio-to-audio",
    "tags": ["l3ac", "audio", "audio-tokenizer", "neural-codec", "fsq", "speech-language-model"],
}

_MARKS = ("<!-- how to load -->", "<!-- end of how to load -->")


def complete_card(path: Path, digest: str, repository: str | None = None) -> None:
    """Give a card (README.md) the metadata and, in front of its text, the lines that load the codec.

    Args:
        path: The card, which is created if it is missing.
        digest: Weights digest, stated in the card.
        repository: Name on the hub; None if it is not known yet.
    """
    card = ModelCard(path.read_text("utf-8") if path.is_file() else "---\n{}\n---\n")
    for key, value in METADATA.items():
        setattr(card.data, key, value)
    rest = re.sub(f"{_MARKS[0]}.*?{_MARKS[1]}\n*", "", card.text, flags=re.DOTALL)
    card.text = f"{_MARKS[0]}\n{_how_to_load(digest, repository)}\n{_MARKS[1]}\n\n{rest.lstrip()}"
    card.save(path)


def license_of(folder: str | Path) -> str | None:
    """The license that the card of a checkpoint directory states; None if it has no card, or none is stated."""
    path = Path(folder, "README.md")
    try:
        stated = ModelCard(path.read_text("utf-8")).data.to_dict()
    except (OSError, ValueError):
        return None
    found = stated.get("license")
    return str(stated.get("license_name") or found) if found == "other" else found


def _how_to_load(digest: str, repository: str | None) -> str:
    name = repository or "OWNER/NAME"
    return f"""```bash
pip install l3ac-tokenizer
```

```python
import l3ac_tokenizer  # needed: the Auto classes know the codec through it, no code comes with the weights
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("{name}")
extractor = AutoFeatureExtractor.from_pretrained("{name}")
```

Weights digest: `{digest}`."""
