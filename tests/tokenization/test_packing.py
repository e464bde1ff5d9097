"""Packed sequences: every token once, in an order that depends on nothing but the seed, for any number of ranks."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, SequentialSampler

from l3ac_tokenizer import PackedCorpus, split_ids
from l3ac_tokenizer.tokenization import packing, token_stream, write_npy_index
from l3ac_tokenizer.tokenization.audio_tokens import AudioTokens
from l3ac_tokenizer.tokenization.errors import CorpusError
from l3ac_tokenizer.tokenization.npy_index import read_npy_index
from l3ac_tokenizer.tokenization.token_stream import TokenStream, permutation

from . import packed_training
from .corpora import write_tokenized
from .packed_training import trainer

START, END, OFFSET = 0, 1, 2
SEPARATORS = {"audio_offset": OFFSET, "audio_start_id": START, "audio_end_id": END}
LENGTHS = [5, 0, 61, 1, 8, 3, 0, 17, 2, 9, 30, 4, 11]
"""Ids of the documents: none, and several times the length of a sequence, among others."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks and windows in a corpus of a few documents."""
    monkeypatch.setattr(token_stream, "BLOCK", 4)
    monkeypatch.setattr(packing, "WINDOW", 6)


def made_documents(lengths: Sequence[int] = LENGTHS, first: int = 0) -> list[list[int]]:
    """Documents of which no two have an id in common, each rising by one."""
    ends = np.cumsum([first, *lengths]).tolist()
    return [list(range(*bounds)) for bounds in pairwise(ends)]


def write(folder: Path, documents: list[list[int]], **options) -> Path:
    write_npy_index(write_tokenized(folder, documents, **options))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "corpus", made_documents())


def rows(corpus: Sequence[dict[str, torch.Tensor]]) -> list[list[int]]:
    """The tokens of every sequence."""
    return [sequence["input_ids"].tolist() for sequence in corpus]


def parts(corpus: Sequence[dict[str, torch.Tensor]]) -> list[list[int]]:
    """The tokens of every part of a document, in all sequences."""
    found = []
    for sequence in corpus:
        numbers = sequence["document_ids"]
        found += [sequence["input_ids"][numbers == number].tolist() for number in range(int(numbers.max()) + 1)]
    return found


def check_complete(sequences: Sequence[dict[str, torch.Tensor]], documents: list[list[int]], separators: bool) -> None:
    """Every token of every document is there once, with its separators, in the order of its document."""
    found = parts(sequences)
    tokens = [token for part in found for token in part]
    ids = [OFFSET * separators + each for document in documents for each in document]
    assert sorted(tokens) == sorted(ids + [START, END] * len(documents) * separators)
    starts = {OFFSET + document[0] for document in documents if document}
    ends = {OFFSET + document[-1] for document in documents if document}
    for part in found:
        for one, other in pairwise(part):
            if separators and START in (one, other):
                assert one == START and (other in starts or other == END)
            elif separators and END in (one, other):
                assert other == END and one in ends
            else:
                assert other == one + 1


# --- completeness -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separators", [True, False])
@pytest.mark.parametrize("length", [1, 2, 7, 16, 400])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_token_is_there_once_over_all_ranks(folder, length, world_size, separators):
    corpus = PackedCorpus(folder, length, multiple_of=world_size, **(SEPARATORS if separators else {}))
    seen = []
    for rank in range(world_size):
        sampler = DistributedSampler(corpus, world_size, rank, shuffle=False)
        seen += [corpus[index] for index in sampler]
    check_complete(seen, made_documents(), separators)
    assert corpus.num_tokens == sum(LENGTHS) + 2 * len(LENGTHS) * separators
    padded = [sequence for sequence in seen if (sequence["document_ids"] < 0).any()]
    assert sum((sequence["document_ids"] < 0).all().item() for sequence in seen) < world_size
    assert sum(0 < (sequence["document_ids"] < 0).sum() < length for sequence in padded) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_samplers_of_accelerate_neither_repeat_nor_drop(folder, world_size):
    accelerate = pytest.importorskip("accelerate")
    corpus = PackedCorpus(folder, 7, multiple_of=2 * world_size, **SEPARATORS)
    batches = BatchSampler(SequentialSampler(corpus), batch_size=2, drop_last=False)
    seen = []
    for rank in range(world_size):
        seen += [i for batch in accelerate.data_loader.BatchSamplerShard(batches, world_size, rank) for i in batch]
    assert sorted(seen) == list(range(len(corpus)))


def test_workers_give_what_the_corpus_gives(folder):
    corpus = PackedCorpus(folder, 7, epochs=2, **SEPARATORS)
    loaded = [row for batch in DataLoader(corpus, batch_size=3, num_workers=2) for row in batch["input_ids"].tolist()]
    assert loaded == rows(corpus)


def test_a_process_of_its_own_gets_names_of_files_in_place_of_arrays(tmp_path):
    corpus = PackedCorpus(write(tmp_path / "long", [list(range(100_000))]), 64, **SEPARATORS)
    sent = pickle.dumps(corpus)
    assert len(sent) < 10_000 and rows(pickle.loads(sent)) == rows(corpus)


def test_several_corpora_are_one(folder, tmp_path):
    other = made_documents([4, 40, 0, 2, 2, 2, 9], first=sum(LENGTHS))
    corpus = PackedCorpus([folder, write(tmp_path / "other", other)], 7, **SEPARATORS)
    check_complete(corpus, made_documents() + other, True)


def test_split_ids_are_a_token_for_each_group(tmp_path):
    documents = [[0, 117_648, 5, 70_000], [343], []]
    corpus = PackedCorpus(write(tmp_path / "split", documents, split=2), 7, **SEPARATORS)
    offsets = np.array([OFFSET, OFFSET + 343])
    groups = [(split_ids(np.array(ids), (7,) * 6, 2) + offsets).reshape(-1) for ids in documents if ids]
    expected = sorted([*np.concatenate(groups).tolist(), *[START, END] * 3])
    assert sorted(token for part in parts(corpus) for token in part) == expected
    assert corpus.vocab_size == OFFSET + 2 * 343


# --- the contents of a sequence -----------------------------------------------------------------------------------


def test_positions_and_numbers_of_documents_follow_the_parts(folder):
    for sequence in PackedCorpus(folder, 16, multiple_of=5, **SEPARATORS):
        documents = sequence["document_ids"].tolist()
        runs = [len(list(run)) for _, run in groupby(documents)]
        assert sequence["position_ids"].tolist() == [place for run in runs for place in range(run)]
        assert sorted(set(documents) - {-1}) == list(range(max(documents) + 1))
        ignored = (sequence["position_ids"] == 0) | (sequence["document_ids"] < 0)
        assert (sequence["labels"] == torch.where(ignored, -100, sequence["input_ids"])).all()
        assert (sequence["input_ids"][sequence["document_ids"] < 0] == 0).all()
        assert {value.dtype for value in sequence.values()} == {torch.int64}


def test_models_of_transformers_attend_within_documents(tmp_path):
    """A sequence of four documents has the logits of each of them alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    corpus = PackedCorpus(write(tmp_path / "corpus", made_documents([5, 9, 2, 6])), 33, **SEPARATORS)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=corpus.vocab_size, **sizes)).double().eval()
    (batch,) = DataLoader(corpus, batch_size=1)
    numbers = batch.pop("document_ids")[0]
    with torch.inference_mode():
        packed = model(**batch, use_cache=False)
        alone = [model(batch["input_ids"][:, numbers == number]) for number in range(4)]
        assert torch.allclose(packed.logits[0, numbers >= 0], torch.cat([each.logits[0] for each in alone]), atol=1e-9)


def test_tokens_are_those_of_the_processor(tmp_path):
    from test_processing import byte_tokenizer

    from l3ac_tokenizer import CodecFeatureExtractor, L3ACProcessor

    processor = L3ACProcessor(CodecFeatureExtractor(), byte_tokenizer(), codebook_size=7**6)
    ids = [5, 117_648, 0]
    names = ("audio_offset", "audio_start_id", "audio_end_id")
    (sequence,) = PackedCorpus(write(tmp_path / "c", [ids]), 5, **{name: getattr(processor, name) for name in names})
    assert sequence["input_ids"].tolist() == processor.encode_parts([{"type": "audio", "ids": ids}])


@pytest.mark.parametrize("start", [None, START])
@pytest.mark.parametrize("end", [None, END])
@pytest.mark.parametrize("sizes", [(7**6,), (343, 343)])
def test_any_part_of_a_document_is_that_of_the_whole(start, end, sizes):
    tokens = AudioTokens(sizes, OFFSET, start, end)
    ids = np.arange(6, dtype=np.int32)
    size = len(ids) + tokens.separators
    whole = tokens.join(ids, np.array([0]), np.array([6]), 0, size)[0].tolist()
    offsets = [OFFSET] * 6 if len(sizes) == 1 else [OFFSET, OFFSET + 343] * 3
    body = [each + offset for each, offset in zip(range(6), offsets, strict=True)]
    assert whole == [START] * (start is not None) + body + [END] * (end is not None)
    for first in range(size):
        for last in range(first, size + 1):
            part, places = tokens.join(ids, np.array([0]), np.array([6]), first, last - first)
            assert part.tolist() == whole[first:last] and places.tolist() == list(range(first, last))


def test_positions_go_beyond_what_32_bits_hold(tmp_path):
    """A document of more than 2³¹ ids, 8 GiB of which the disk holds the last page alone, and one behind it."""
    write(tmp_path / "corpus", [[7] * 3, [5] * 3])
    sizes = 2**31 + 1000, 1000
    np.save(tmp_path / "corpus" / "index.npy", np.cumsum([0, *sizes]))
    with open(tmp_path / "corpus" / "ids.npy", "r+b") as file:
        header = {"descr": "<i4", "fortran_order": False, "shape": (sum(sizes),)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell())
        file.seek(4 * (sum(sizes) - 1010), os.SEEK_CUR)
        file.write(np.arange(1, 1011, dtype="<i4").tobytes())
    source = read_npy_index(tmp_path / "corpus")
    stream = TokenStream([source], AudioTokens.of(source.metadata, audio_offset=2, audio_start_id=0, audio_end_id=1), 0)
    assert stream.size == sum(sizes) + 4
    first = int(permutation(2, 0, 0, 0)[0])  # the document that comes first
    end_of_long, start_of_short = (sizes[0] + 2, sizes[0] + 2) if first == 0 else (stream.size, 0)
    ((tokens, places),) = stream.read(0, end_of_long - 11, end_of_long)
    assert tokens.tolist() == [*range(3, 13), 1] and places.tolist() == list(range(sizes[0] - 9, sizes[0] + 2))
    ((tokens, _),) = stream.read(0, start_of_short, start_of_short + 1002)
    assert tokens.tolist() == [0, *range(13, 1013), 1]
    if first == 0:
        assert len(PackedCorpus(tmp_path / "corpus", 512)) == -(-sum(sizes) // 512)


# --- order --------------------------------------------------------------------------------------------------------


def test_a_seed_has_one_order_and_every_epoch_another(folder):
    corpus = PackedCorpus(folder, 7, epochs=3, **SEPARATORS)
    an_epoch = len(corpus) // 3
    epochs = [rows(corpus)[epoch * an_epoch :][:an_epoch] for epoch in range(3)]
    assert rows(PackedCorpus(folder, 7, **SEPARATORS)) == epochs[0]
    assert len({json.dumps(sorted(epoch)) for epoch in epochs}) == 3
    for epoch in range(3):
        check_complete([corpus[i] for i in range(epoch * an_epoch, (epoch + 1) * an_epoch)], made_documents(), True)
    assert rows(PackedCorpus(folder, 7, seed=1, **SEPARATORS)) != epochs[0]


def test_a_long_document_is_spread_over_the_window(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "WINDOW", 1 << 14)
    corpus = PackedCorpus(write(tmp_path / "corpus", made_documents([2000, 2000])), 10)
    neighbors = [abs(other[0] - one[0]) <= 10 for one, other in pairwise(rows(corpus))]
    assert sum(neighbors) < 10


def test_permutations_are_complete_and_the_same_for_ever():
    for count in (0, 1, 2, 1000):
        assert sorted(permutation(count, 3, 1).tolist()) == list(range(count))
    assert permutation(8, 0, 0).tolist() == [0, 1, 6, 4, 7, 5, 3, 2]
    orders = {tuple(permutation(8, *key)) for key in [(0, 0), (0, 1), (1, 0), (-1, 0), (0,), (0, 0, 0), (0, 0, -1)]}
    assert len(orders) == 7


# --- resuming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consumed", [0, 1, 10, 33, 10_000])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_a_state_leaves_exactly_the_rest_for_any_number_of_ranks(folder, consumed, world_size):
    whole = PackedCorpus(folder, 7, epochs=2, multiple_of=4, **SEPARATORS)
    state = json.loads(json.dumps(whole.state_dict(consumed)))
    rest = PackedCorpus(folder, 7, epochs=2, multiple_of=world_size, **SEPARATORS)
    rest.load_state_dict(state)
    ranks = [
        rows([rest[i] for i in DistributedSampler(rest, world_size, rank, shuffle=False)])
        for rank in range(world_size if len(rest) else 0)
    ]
    together = [row for step in zip(*ranks, strict=True) for row in step]
    real = [row for row in rows(whole) if any(row)]
    assert [row for row in together if any(row)] == real[consumed:]
    assert rest.state_dict(3)["sequence"] == min(consumed + 3, len(real))


def test_a_state_of_other_sequences_is_refused(folder, tmp_path):
    state = PackedCorpus(folder, 7, **SEPARATORS).state_dict(3)
    for change, words in (
        ({"length": 8, "seed": 5}, r"another `length` \(7, now 8\), `seed` \(0, now 5\)"),
        ({"audio_end_id": None}, r"`audio_end_id` \(1, now None\)"),
        ({"folder": write(tmp_path / "longer", [*made_documents(), [9]])}, "another corpus"),
        ({"folder": write(tmp_path / "other", made_documents(first=1))}, "another corpus"),
    ):
        corpus = PackedCorpus(**{"folder": folder, "length": 7, **SEPARATORS, **change})
        with pytest.raises(CorpusError, match=words):
            corpus.load_state_dict(state)
    for damaged in ({**state, "sequence": -1}, {**state, "sequence": "3"}):
        with pytest.raises(CorpusError, match="the state is damaged"):
            PackedCorpus(folder, 7, **SEPARATORS).load_state_dict(damaged)


def test_a_corpus_that_grows_is_refused_until_its_index_is_written_again(folder):
    state = PackedCorpus(folder, 7).state_dict(3)
    write_tokenized(folder, [*made_documents(), [7], [8], [9]])
    with pytest.raises(CorpusError, match="have changed since their index was written"):
        PackedCorpus(folder, 7)
    write_npy_index(folder)
    with pytest.raises(CorpusError, match="another corpus"):
        PackedCorpus(folder, 7).load_state_dict(state)


# --- bad input ----------------------------------------------------------------------------------------------------


def test_corpora_that_cannot_be_packed_are_refused(folder, tmp_path):
    with pytest.raises(CorpusError, match="no complete index of its ids"):
        PackedCorpus(write_tokenized(tmp_path / "bare", made_documents()), 7)
    with pytest.raises(CorpusError, match="give them as two corpora"):
        PackedCorpus([folder, write(tmp_path / "other", made_documents(), digest="1" * 64)], 7)
    with pytest.raises(CorpusError, match="no tokens to pack"):
        PackedCorpus(write(tmp_path / "empty", [[], []]), 7)
    with pytest.raises(CorpusError, match="ids outside the codebook"):
        write(tmp_path / "beyond", [[117_649]])
    with pytest.raises(CorpusError, match="ids outside the codebook"):
        write(tmp_path / "negative", [[-1]])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"length": 0}, "`length` is 0"),
        ({"epochs": 0}, "`epochs` is 0"),
        ({"multiple_of": 0}, "`multiple_of` is 0"),
        ({"folder": []}, "`folder` is empty"),
        ({"audio_offset": -1}, "`audio_offset` is -1"),
        ({"audio_offset": 2**31 - 100}, "fits 32 bits"),
        ({"audio_start_id": 5}, "`audio_start_id` is 5, the token of an id"),
    ],
)
def test_numbers_out_of_range_are_refused(folder, options, words):
    with pytest.raises(ValueError, match=words):
        PackedCorpus(**{"folder": folder, "length": 7, **options})


def test_a_sequence_beyond_the_last_one_is_an_index_error(folder):
    corpus = PackedCorpus(folder, 7)
    assert rows([corpus[-1]]) == rows([corpus[len(corpus) - 1]])
    for index in (len(corpus), -len(corpus) - 1):
        with pytest.raises(IndexError):
            corpus[index]


@pytest.mark.parametrize("name", ["ids.npy", "index.npy", "index.json"])
@pytest.mark.parametrize("change", [lambda data: data[:-40], lambda data: b"", lambda data: data[::-1]])
def test_a_damaged_index_is_one_sentence(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CorpusError, match=r"is damaged \(.*export-tokens"):
        PackedCorpus(folder, 7)


def test_an_index_that_falls_is_refused_where_it_is_read(folder):
    index = np.load(folder / "index.npy")
    index[3], index[4] = index[4], index[3]
    np.save(folder / "index.npy", index)
    with pytest.raises(CorpusError, match=r"index of .* is damaged"):
        rows(PackedCorpus(folder, 7))


# --- Trainer ------------------------------------------------------------------------------------------------------


def test_trainer_reads_the_sequences_in_their_order(folder, tmp_path):
    corpus = PackedCorpus(folder, 7, epochs=2, multiple_of=4, **SEPARATORS)
    run = trainer(corpus, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, save_strategy="no")
    run.train()
    assert run.model.seen == rows(corpus)


def test_trainer_resumes_by_itself_where_the_batch_over_all_ranks_is_the_same(folder, tmp_path):
    """Half as many in a batch and twice the accumulation: what half as many ranks would do."""
    corpus = PackedCorpus(folder, 7, multiple_of=4, **SEPARATORS)
    first = trainer(corpus, tmp_path, per_device_train_batch_size=4, save_steps=3, max_steps=3)
    first.train()
    assert first.model.seen == rows(corpus)[:12]
    second = trainer(corpus, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert second.model.seen == rows(corpus)[12:]


def in_processes(options: dict, world_size: int) -> list[list[list[int]]]:
    """What each rank of a training in this many processes has read."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, packed_training.__file__, json.dumps(options)]
    started = []
    for rank in range(world_size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in place.items()}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return [json.loads(Path(options["output"], f"rank-{rank}.json").read_text()) for rank in range(world_size)]


def test_trainer_resumes_at_a_sample_with_another_number_of_ranks(folder, tmp_path, monkeypatch):
    """Three updates of four sequences in two processes; the others, three at a time, in one."""
    monkeypatch.undo()  # the processes have blocks and windows of their usual sizes
    options = {"folder": str(folder), "length": 7, **SEPARATORS}
    training = {"per_device_train_batch_size": 2, "max_steps": 3, "save_steps": 3}
    ranks = in_processes(
        {"corpus": options | {"multiple_of": 4}, "output": str(tmp_path / "run"), "training": training}, 2
    )
    whole = PackedCorpus(**options)
    order = [row for step in range(0, 6, 2) for rank in ranks for row in rank[step : step + 2]]
    assert order == rows(whole)[:12] and len(whole) > 12 and (len(whole) - 12) % 3
    rest = PackedCorpus(**options, multiple_of=3)
    rest.load_state_dict(whole.state_dict(3 * 4))
    goal = {"max_steps": 3 + len(rest) // 3, "ignore_data_skip": True}
    second = trainer(rest, tmp_path / "run", per_device_train_batch_size=3, **goal)
    second.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert [row for row in second.model.seen if any(row)] == rows(whole)[12:]


def test_sequences_of_padding_do_not_spoil_the_loss_of_trainer(folder, tmp_path):
    """Its losses are sums over the labels of all ranks, by their number."""
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    corpus = PackedCorpus(folder, 7, multiple_of=16, **SEPARATORS)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=corpus.vocab_size, **sizes))
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "logging_steps": 1, "max_steps": 2}
    arguments = TrainingArguments(
        str(tmp_path), report_to="none", save_strategy="no", train_sampling_strategy="sequential", **options
    )
    rest = PackedCorpus(folder, 7, multiple_of=16, **SEPARATORS)
    rest.load_state_dict(corpus.state_dict(20))
    assert len(rest) == 16 and (rest[15]["labels"] == -100).all()
    run = Trainer(model, arguments, train_dataset=rest)
    run.train()
    assert all(np.isfinite(entry["loss"]) for entry in run.state.log_history if "loss" in entry)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
