"""Recipe of a language model over ids: its parts, and a tiny run from corpus to audio."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from networks import speech_like, tiny
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, Qwen2Config, Qwen2ForCausalLM

pytest.importorskip("datasets")

from l3ac_tokenizer.speech_lm import corpus as corpora
from l3ac_tokenizer.speech_lm.likelihood import bits_per_id
from l3ac_tokenizer.speech_lm.model import SpeechLM, SpeechLMConfig
from l3ac_tokenizer.speech_lm.unigram import digit_unigram_bits, unigram_bits
from l3ac_tokenizer.tokenization.arrow import ids_array, shard_schema
from l3ac_tokenizer.tokenization.reader import TokenizedCorpus
from l3ac_tokenizer.tokenization.spec import CorpusMetadata

RECIPE = Path(__file__).parent.parent / "recipes" / "speech_lm.py"
LEVELS = (5, 3, 3)
CODEBOOK = math.prod(LEVELS)


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("speech_lm", RECIPE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["speech_lm"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["speech_lm"]


@pytest.fixture
def tiny_lm():
    torch.manual_seed(1)
    return SpeechLM(
        SpeechLMConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, levels=LEVELS)
    ).eval()


def corpus_of(model, folder: Path, split: int = 1) -> Path:
    """A folder with one shard of 30 clips of a quarter of a second and more, as `l3ac tokenize` writes it."""
    metadata = CorpusMetadata.of(model, split, max_seconds=None)
    rate, hop = model.config.sampling_rate, model.config.hop_length
    samples = [rate // 4 + 10 * seed for seed in range(30)]
    with torch.no_grad():
        clips = [
            model.encode(speech_like(count, seed)[None, None]).audio_codes[0, 0].numpy().astype(np.int32)
            for seed, count in enumerate(samples)
        ]
    assert all(len(clip) == -(-count // hop) for clip, count in zip(clips, samples, strict=True))
    schema = shard_schema({"speaker": pa.string()}, metadata)
    table = pa.table(
        {
            "id": [f"clip-{number}" for number in range(30)],
            "ids": ids_array(clips, split),
            "num_samples": samples,
            "sampling_rate": [rate] * 30,
            "path": [f"clip-{number}.wav" for number in range(30)],
            "speaker": [f"speaker-{number // 2}" for number in range(30)],
        },
        schema=schema,
    )
    folder.mkdir()
    pq.write_table(table, folder / "shard-00000.parquet")
    return folder


# ---------------------------------------------------------------------------------------------- figures


def test_a_unigram_model_is_a_distribution_and_its_bits_are_those_of_its_formula():
    rng = np.random.default_rng(0)
    train, held_out = (rng.binomial(44, 0.3, size=size) for size in (300, 100))
    bits, a = unigram_bits(train, held_out, CODEBOOK)
    probabilities = (np.bincount(train, minlength=CODEBOOK) + a) / (300 + a * CODEBOOK)
    assert probabilities.sum() == pytest.approx(1)
    assert bits == pytest.approx(-np.log2(probabilities[held_out]).mean())
    every, _ = unigram_bits(train, np.arange(CODEBOOK), CODEBOOK)
    assert every == pytest.approx(-np.log2(probabilities).mean())


def test_the_smoothing_is_the_one_that_predicts_each_training_id_from_the_others_best():
    train = np.random.default_rng(0).binomial(44, 0.3, size=200)
    _, chosen = unigram_bits(train, train, CODEBOOK)

    def left_out(a: float) -> float:
        rest = [np.delete(train, place) for place in range(len(train))]
        return sum(
            math.log2(((others == value).sum() + a) / (len(others) + a * CODEBOOK))
            for others, value in zip(rest, train, strict=True)
        )

    assert left_out(chosen) >= max(left_out(chosen * 2), left_out(chosen / 2))


def test_ids_without_any_repetition_are_smoothed_to_uniform():
    bits, _ = unigram_bits(np.arange(0, 100_000, 7), np.arange(50), 100_000)
    assert bits == pytest.approx(math.log2(100_000), abs=0.01)


def test_digits_without_context_cost_the_entropy_of_each():
    ids = np.random.default_rng(0).integers(0, CODEBOOK, size=20_000)
    assert digit_unigram_bits(ids, ids, LEVELS) == pytest.approx(math.log2(CODEBOOK), abs=0.01)
    assert digit_unigram_bits(np.zeros(1000, int), np.zeros(9, int), LEVELS) < 0.01


def test_the_bits_of_the_model_count_every_id_once_whatever_the_batches(tiny_lm):
    clips = [np.arange(length) % CODEBOOK for length in (3, 9, 1, 6)]
    with torch.no_grad():
        nats = 0.0
        for clip in clips:
            ids = torch.from_numpy(clip)[None]
            nats -= tiny_lm.lm_head.log_prob(tiny_lm.features(ids), ids).sum().item()
    for batch_size in (1, 3, 4):
        assert bits_per_id(tiny_lm, clips, batch_size) == pytest.approx(nats / math.log(2) / 19, rel=1e-5)


# ---------------------------------------------------------------------------------------------- the model


def test_features_depend_on_the_ids_before_only(tiny_lm):
    ids = torch.randint(CODEBOOK, (1, 8))
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % CODEBOOK
    with torch.no_grad():
        difference = (tiny_lm.features(ids) - tiny_lm.features(changed)).abs().amax(dim=(0, 2))
    assert (difference[:6] == 0).all() and (difference[6:] > 0).all()


def test_continuing_step_by_step_is_what_the_whole_sequence_says(tiny_lm):
    ids = torch.randint(CODEBOOK, (2, 5))
    drawn = tiny_lm.continue_ids(ids, 6, temperature=0)
    assert drawn.shape == (2, 6)
    for count in range(6):
        whole = torch.cat([ids, drawn[:, : count + 1]], dim=1)
        with torch.no_grad():
            features = tiny_lm.features(whole)[:, -1]
        assert torch.equal(tiny_lm.lm_head.sample(features, temperature=0), drawn[:, count])


def test_draws_repeat_with_the_seed_and_differ_with_another(tiny_lm):
    ids = torch.randint(CODEBOOK, (1, 5))
    draws = [tiny_lm.continue_ids(ids, 20, seed=seed).tolist() for seed in (3, 3, 4)]
    assert draws[0] == draws[1] != draws[2]


def test_saving_and_loading_keeps_every_weight(tiny_lm, tmp_path):
    tiny_lm.save_pretrained(tmp_path)
    loaded = SpeechLM.from_pretrained(tmp_path)
    for name, value in tiny_lm.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


TEXT = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def text_model(tmp_path) -> LlamaModel:
    """A Llama of text in the folder `text`, with settings that are not the defaults."""
    more = {"num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-3, "attention_bias": True}
    rope = {"rope_type": "default", "rope_theta": 70_000.0}
    model = LlamaForCausalLM(LlamaConfig(**TEXT, **more, rope_parameters=rope)).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "text")
    return model.model.float()


@torch.no_grad()
def test_the_layers_of_a_text_model_compute_the_same_on_ids(text_model, tmp_path):
    model = SpeechLM.from_text_model(str(tmp_path / "text"), levels=LEVELS, max_position_embeddings=77).eval()
    assert model.dtype == torch.float32 and model.config.max_position_embeddings == 77
    ids = torch.randint(CODEBOOK, (2, 9))
    wanted = text_model(inputs_embeds=model._embed(ids[:, :-1])).last_hidden_state
    torch.testing.assert_close(model.features(ids), wanted)
    model.save_pretrained(tmp_path / "saved")
    torch.testing.assert_close(SpeechLM.from_pretrained(tmp_path / "saved").features(ids), wanted)


def test_a_text_model_that_is_no_llama_is_refused(tmp_path):
    Qwen2ForCausalLM(Qwen2Config(**TEXT, num_key_value_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a model of type 'qwen2'; give a Llama"):
        SpeechLM.from_text_model(str(tmp_path), levels=LEVELS)


# ---------------------------------------------------------------------------------------------- the run


@pytest.fixture
def codec(request, tmp_path):
    """The tiny network of L3AC, or the one requested by a test."""
    model = tiny(getattr(request, "param", "tiny"))
    model.save_pretrained(tmp_path / "codec")
    return model


def options_for(tmp_path: Path, **values) -> Namespace:
    config = {
        "model": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        "context": 64,
        "held_out": 0.2,
        "validation": 0.2,
        "training": {
            "num_train_epochs": 3,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    defaults = {
        "corpus": str(tmp_path / "corpus"),
        "run": str(tmp_path / "run"),
        "config": str(tmp_path / "config.yaml"),
        "model": str(tmp_path / "codec"),
        "prompt": None,
        "prompt_seconds": 0.02,
        "seconds": 0.01,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
    }
    return Namespace(**defaults | values)


@pytest.mark.parametrize(("codec", "split"), [("tiny", 1), ("tiny", 2), ("tiny-taae", 1)], indirect=["codec"])
def test_a_tiny_run_goes_from_corpus_to_audio(recipe, codec, tmp_path, split):
    from l3ac_tokenizer import split_ids

    folder = corpus_of(codec, tmp_path / "corpus")
    if split > 1:  # the same corpus as `l3ac tokenize --split 2` writes it
        table = pq.read_table(folder / "shard-00000.parquet")
        groups = [split_ids(np.array(ids), LEVELS, split).astype(np.int32) for ids in table["ids"].to_pylist()]
        schema = shard_schema({"speaker": pa.string()}, CorpusMetadata.of(codec, split, max_seconds=None))
        columns = {name: table[name] for name in table.column_names} | {"ids": ids_array(groups, split)}
        pq.write_table(pa.table(columns, schema=schema), folder / "shard-00000.parquet")
    soundfile.write(tmp_path / "prompt.wav", speech_like(2000, seed=5).numpy(), 16_000)
    options = options_for(tmp_path, prompt=str(tmp_path / "prompt.wav"))
    results = recipe.run_training(options)

    bits = results["bits_per_id"]
    assert list(bits.values()) == sorted(bits.values(), reverse=True)
    assert bits["uniform"] == pytest.approx(math.log2(CODEBOOK))
    model = next(value for name, value in bits.items() if name.startswith("language model"))
    assert model < bits["unigram of digits"] < bits["uniform"]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["bits_per_id"] == bits
    assert "| uniform | 5.49 |" in recipe.markdown_table(results)

    rate, hop = 16_000, codec.config.hop_length
    audio, found_rate = soundfile.read(tmp_path / "run" / "continuation.flac")
    assert found_rate == rate
    assert len(audio) == (math.ceil(0.02 * rate / hop) + math.ceil(0.01 * rate / hop)) * hop
    trained = SpeechLM.from_pretrained(tmp_path / "run" / "model")
    assert tuple(trained.config.levels) == LEVELS
    assert trained.config.weights_digest == codec.weights_digest()


def test_a_run_starts_from_a_text_model(recipe, codec, text_model, tmp_path):
    corpus_of(codec, tmp_path / "corpus")
    options = options_for(tmp_path)
    config = yaml.safe_load(Path(options.config).read_text())
    config["training"]["learning_rate"] = 1e-9
    for given, said in (({"init_from": "x"}, "and not both"), ({"model": None}, "`model` or `init_from`")):
        Path(options.config).write_text(yaml.safe_dump({**config, **given}))
        with pytest.raises(ValueError, match=said):
            recipe.run_training(options)
    Path(options.config).write_text(yaml.safe_dump({**config, "model": None, "init_from": str(tmp_path / "text")}))
    recipe.run_training(options)
    trained = SpeechLM.from_pretrained(tmp_path / "run" / "model").model.layers[1].mlp.up_proj.weight
    torch.testing.assert_close(trained, text_model.layers[1].mlp.up_proj.weight, atol=1e-6, rtol=0)


def test_no_speaker_is_in_two_parts_and_no_id_is_lost(codec, tmp_path):
    corpus = TokenizedCorpus(corpus_of(codec, tmp_path / "corpus"))
    rows = pq.read_table(corpus.files[0]).to_pylist()
    names = [corpora.part_of(row, 0.2, 0.2) for row in rows]
    assert names[::2] == names[1::2]  # two clips a speaker
    assert set(names) == {"train", "validation", "held_out"}
    parts = corpora.split_corpus(corpus, 50, 0.2, 0.2, tmp_path / "cache")
    for name, part in parts.items():
        whole = np.concatenate([row["ids"] for row, each in zip(rows, names, strict=True) if each == name])
        assert np.array_equal(corpora.all_ids(part), whole)
        assert max(len(row["ids"]) for row in part) == 50


def test_ids_of_another_codec_are_refused(recipe, codec, tmp_path):
    corpus_of(codec, tmp_path / "corpus")
    with torch.no_grad():
        codec.quantizer.project_in.bias.add_(0.1)
    codec.save_pretrained(tmp_path / "codec")
    with pytest.raises(ValueError, match="give --model the one that made it"):
        recipe.run_training(options_for(tmp_path))


def test_ids_of_weights_that_kept_the_encoder_are_read(recipe, codec, tmp_path):
    corpus_of(codec, tmp_path / "corpus")
    codec.config.ids_of, codec.config.encoder_digest = list(codec.id_digests()), codec.encoder_digest()
    with torch.no_grad():
        next(codec.decoder.parameters()).add_(0.1)
    codec.save_pretrained(tmp_path / "codec")
    with pytest.raises(ValueError, match="exceed the context of 64 ids"):  # which is asked after that
        recipe.run_training(options_for(tmp_path, seconds=1.0))


@pytest.mark.parametrize("codec", ["tiny-taae"], indirect=True)
def test_ids_of_other_levels_of_the_same_weights_are_refused(recipe, codec, tmp_path):
    corpus_of(codec, tmp_path / "corpus")
    codec.set_levels([3, 3, 5])
    codec.save_pretrained(tmp_path / "codec")
    with pytest.raises(ValueError, match=r"the levels 5,3,3 and .* has 3,3,5: give --model"):
        recipe.run_training(options_for(tmp_path))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seconds": 1.0}, "exceed the context of 64 ids"),
        ({"corpus": "nowhere"}, "no file or folder nowhere"),
    ],
)
def test_what_cannot_run_is_refused_before_training(recipe, codec, tmp_path, values, said):
    corpus_of(codec, tmp_path / "corpus")
    with pytest.raises((ValueError, OSError), match=said):
        recipe.run_training(options_for(tmp_path, **values))
    assert not (tmp_path / "run" / "model").exists()


def test_an_unknown_key_of_the_configuration_is_named(recipe, tmp_path):
    (tmp_path / "config.yaml").write_text("model: {}\ntraining: {}\nwidth: 3\n")
    with pytest.raises(ValueError, match="width"):
        recipe.load_config(str(tmp_path / "config.yaml"), tmp_path)


def test_the_configuration_that_comes_with_the_recipe_is_valid_and_of_a_few_million_parameters(recipe, tmp_path):
    config, _ = recipe.load_config(str(RECIPE.with_suffix(".yaml")), tmp_path)
    with torch.device("meta"):
        model = SpeechLM(SpeechLMConfig(**config.model))
    assert 2e6 < model.num_parameters() < 9e6
