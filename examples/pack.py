"""A tokenized corpus as packed sequences: a small Llama learns some with `Trainer`, and a plain loop goes on.

    l3ac tokenize recordings/ -o OUT --format npy-index
    python examples/pack.py OUT

The state is numbers and text; keep it with the weights. Any number of processes may continue from it.
"""

import sys

from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from l3ac_tokenizer import PackedCorpus


def main(folder: str, steps: int = 2, batch: int = 2) -> None:
    """Train on the first sequences with `Trainer`, and measure the loss of the others."""
    options = {"length": 128, "audio_start_id": 0, "audio_end_id": 1, "audio_offset": 2, "seed": 0, "epochs": 2}
    corpus = PackedCorpus(folder, multiple_of=batch, **options)
    config = LlamaConfig(vocab_size=corpus.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    model = LlamaForCausalLM(config)
    arguments = TrainingArguments(
        "runs", per_device_train_batch_size=batch, max_steps=steps, train_sampling_strategy="sequential"
    )
    trainer = Trainer(model, arguments, train_dataset=corpus)
    trainer.train()
    state = corpus.state_dict(steps * batch * trainer.args.world_size)

    rest = PackedCorpus(folder, **options)
    rest.load_state_dict(state)
    for sequences in DataLoader(rest, batch_size=batch, num_workers=2):
        documents = sequences.pop("document_ids")  # for masks of your own; models of transformers use position_ids
        loss = model(**sequences, use_cache=False).loss  # with a cache, they would not
        parts = int(documents.max(1).values.sum()) + len(documents)
        print(f"{parts} parts of documents, {loss.item():.2f} nats a token")


if __name__ == "__main__":
    main(sys.argv[1])
