"""Recorded ids of the demo's sentence through the bundled weights, in `golden/bundled_ids.json`.

    python tests/bundled_ids.py

records the ids of new weights. Those of an encoder that is already there must not change: they are compared, never
replaced.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.hub import CHECKPOINTS, bundled_presets

SENTENCE = CHECKPOINTS.parent / "assets" / "demo.flac"
RECORDS = Path(__file__).parent / "golden" / "bundled_ids.json"


@torch.no_grad()
def sentence_ids(model: CodecModel) -> tuple[list[int], list[int]]:
    """Ids of the sentence, and the frames whose latents lie near a rounding boundary."""
    samples = torch.from_numpy(read_audio(SENTENCE, model.config.sampling_rate)[0])
    encoded = model.encode(samples[None, None])
    near = model.quantizer.near_boundary(encoded.latents[0])
    return encoded.audio_codes[0, 0].tolist(), near.nonzero().flatten().tolist()


def record_of(model: CodecModel) -> dict:
    ids, near = sentence_ids(model)
    return {"encoder_digest": model.encoder_digest(), "near_boundary": near, "ids": ids}


def changed_frames(new: dict, recorded: dict) -> list[int]:
    """Frames near no boundary, in neither record, whose ids differ."""
    assert len(new["ids"]) == len(recorded["ids"])
    near = {*new["near_boundary"], *recorded["near_boundary"]}
    pairs = zip(new["ids"], recorded["ids"], strict=True)
    return [frame for frame, (id_, old) in enumerate(pairs) if id_ != old and frame not in near]


def read_records() -> dict[str, dict]:
    """Records by preset."""
    return json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}


def main() -> None:
    records, old = {}, read_records()
    for preset in bundled_presets():
        new = record_of(CodecModel.from_pretrained(preset).eval())
        known = old.get(preset, {})
        if known.get("encoder_digest") == new["encoder_digest"]:
            if changed := changed_frames(new, known):
                raise SystemExit(f"{preset} gives other ids in {len(changed)} frames with the same encoder: a bug.")
            new = known
        records[preset] = new
    RECORDS.parent.mkdir(exist_ok=True)
    lines = ",\n".join(f" {json.dumps(preset)}: {json.dumps(record)}" for preset, record in records.items())
    RECORDS.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
