"""Published weights of L3AC, SQCodec or TAAE → a checkpoint directory of ours.

    python -m hf_integration.convert_checkpoint --preset l3ac-1k --weights FOLDER --output DIRECTORY
    python -m hf_integration.convert_checkpoint --verify REFERENCE_FOLDER

For L3AC and SQCodec, FOLDER holds the five published files `encoder`, `quantizer`, `decoder`, `en_encoder` and
`en_decoder`, each `.pt`, `.pth` (read with `weights_only=True`) or `.safetensors`. For `taae-950m` it holds what
`stabilityai/stable-codec-speech-16k` publishes, under the Stability AI Community License: `model.safetensors` or
`model.ckpt`, and `model_config.json`, which must describe the preset.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from l3ac_tokenizer import CodecFeatureExtractor
from l3ac_tokenizer.conversion.convert import convert_state_dicts, read_state_dicts
from l3ac_tokenizer.conversion.parity import report
from l3ac_tokenizer.conversion.parity_taae import report_taae


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Convert published L3AC, SQCodec or TAAE weights.")
    parser.add_argument("--preset", help="published network, e.g. l3ac-1k or taae-950m")
    parser.add_argument("--weights", type=Path, help="folder with the published files")
    parser.add_argument("--output", type=Path, help="directory to write")
    parser.add_argument("--verify", type=Path, metavar="REFERENCE", help="report the deviation from golden files")
    options = parser.parse_args(arguments)
    if options.verify is not None:
        return max(report(options.verify), report_taae(options.verify))
    if not (options.preset and options.weights and options.output):
        parser.error("give --preset, --weights and --output, or --verify")
    try:
        model = convert_state_dicts(options.preset, read_state_dicts(options.weights, options.preset))
        model.save_pretrained(options.output)
        CodecFeatureExtractor(sampling_rate=model.config.sampling_rate).save_pretrained(options.output)
    except (OSError, ValueError) as error:
        print(f"convert_checkpoint: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {options.preset}, weights digest {model.weights_digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
