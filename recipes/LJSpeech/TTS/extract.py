"""Encode the audio of the recipe to ids, once; `train.py` reads only these.

    python extract.py hparams/transformer_small.yaml --data_folder LJSPEECH --cached_data_folder CACHE

It takes the YAML file and the arguments of `train.py`. Run it again to resume after an interruption.
"""

import sys

import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from ljspeech_prepare import prepare_ljspeech
from speechbrain.utils.distributed import infer_device

from l3ac_tokenizer.speechbrain import extract_ids


def main(argv: list[str]) -> None:
    """Prepare the CSV files and encode their utterances."""
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    prepare_ljspeech(**hparams["prepare"])
    extract_ids(
        [hparams["train_csv"], hparams["valid_csv"], hparams["test_csv"]],
        hparams["data_folder"],
        hparams["tokens_folder"],
        hparams["codec"],
        device=run_opts["device"] or infer_device(),
        allow_outside=hparams["allow_outside"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
