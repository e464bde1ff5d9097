"""Fine-tune a codec on recordings of one's own, and compare it with the one that it started from.

    python examples/finetune.py MY_VOICE --held-out MY_OTHER_RECORDINGS --run runs/mine --minutes 60

In a shell: `l3ac train --config l3ac-1k-light-finetune --data … --held-out … --run … --max-minutes 60`.
"""

import argparse

from l3ac_tokenizer import evaluate, train


def main() -> None:
    """Train, then evaluate both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recordings", help="folder of audio in any format and at any sampling rate")
    parser.add_argument("--held-out", required=True, help="folder of other recordings, to choose the best weights by")
    parser.add_argument("--run", required=True, help="folder for the run; the same command resumes it")
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()

    checkpoint = train(
        "l3ac-1k-light-finetune",
        options.recordings,
        options.run,
        held_out=options.held_out,
        max_minutes=options.minutes,
    )
    print(evaluate(["l3ac-1k-light", checkpoint], options.held_out))
    print(f"load it with AutoModel.from_pretrained({str(checkpoint)!r})")


if __name__ == "__main__":  # training starts processes that import this file
    main()
