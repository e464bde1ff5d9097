"""Train a codec: `l3ac train` as a script, for `accelerate launch` and `torchrun` in a checkout.

    accelerate launch recipes/train_codec.py --config l3ac-1k --data DIR... --run RUN

Any configuration value can be given as well (`--lr 1e-4 --augment.polarity true`). The same command resumes a run that
was stopped or killed. A run of minutes on two CPU cores:

    accelerate launch --cpu recipes/train_codec.py --config l3ac-1k-cpu --data DIR... --run RUN --max-minutes 20

The light network, in stages, on CPU cores:

    accelerate launch --cpu recipes/train_codec.py --config l3ac-1k-light --data DIR... --run RUN --max-minutes 240
"""

from __future__ import annotations

import sys

from l3ac_tokenizer.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
