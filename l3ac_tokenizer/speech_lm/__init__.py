"""A small speech language model, its continuations and its likelihood tests: what `recipes/speech_lm.py` is made of.

| module | content |
|---|---|
| `model` | a Llama over ids |
| `corpus` | a tokenized corpus in parts by speaker, cut to the model's context |
| `continuations` | clips continued by the model, as sound while ids are drawn and on a page |
| `unigram` | models without context, to compare with |
| `likelihood` | log-likelihoods of clips |
| `pairs` | pairs of a likely and an unlikely clip: a table of them |
| `benchmarks` | the same of sWUGGY, sBLIMP, StoryCloze and SALMon, in their published layouts |
| `accuracy` | how often the likely clip is the likelier one, with intervals |
| `disturbances` | pairs made of any audio |
"""
