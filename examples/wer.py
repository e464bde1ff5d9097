"""Word error rate of codecs on data of one's own: what a recognizer makes of the decoded audio.

    python examples/wer.py MY_CLIPS --model l3ac-1k-light runs/mine/best me/my-codec

MY_CLIPS is a folder or a manifest (.csv, .jsonl) with a column `text`; needs the extras `eval` and `eval-offline`.
"""

import argparse

import soundfile

from l3ac_tokenizer import evaluate

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("clips", help="folder, manifest, or one audio file")
parser.add_argument("--text", help="what is said, where CLIPS is one audio file")
parser.add_argument("--model", nargs="+", default=["l3ac-1k-light"], help="bundled names, folders or hub names")
parser.add_argument("--asr", default="faster-whisper", help="faster-whisper, or a recognizer of the hub")
options = parser.parse_args()

clips = options.clips
if options.text:  # arrays do as well: a list of (audio, sampling rate, text)
    clips = [(*soundfile.read(options.clips), options.text)]

result = evaluate([*options.model, "original"], clips, asr=options.asr)
print(result)  # the tables of `l3ac evaluate`
print(result.to_pandas()[["codec", "clips", "wer", "dwer"]].to_string(index=False))
