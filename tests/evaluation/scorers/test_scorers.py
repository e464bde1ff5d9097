"""Scorers: exact on known values, and tiny models of every kind loaded and run."""

from __future__ import annotations

import importlib
import json
import sys
import types

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import speech_like

from l3ac_tokenizer.asr import word_errors
from l3ac_tokenizer.cli.main import make_parser
from l3ac_tokenizer.evaluation.dataset import EvaluationClip
from l3ac_tokenizer.evaluation.run import EvaluationOptions
from l3ac_tokenizer.evaluation.scorers import asr, mos, registry, speaker
from l3ac_tokenizer.evaluation.scorers.asr import WordErrorScorer
from l3ac_tokenizer.evaluation.scorers.base import Metric, Scorer, Trial
from l3ac_tokenizer.evaluation.scorers.classifier import ClassifierScorer
from l3ac_tokenizer.evaluation.scorers.features import FeatureDistanceScorer
from l3ac_tokenizer.evaluation.scorers.mos import PredictedMOSScorer
from l3ac_tokenizer.evaluation.scorers.registry import SCORERS, ScorerEntry, available_scorers, open_scorer
from l3ac_tokenizer.evaluation.scorers.speaker import SpeakerSimilarityScorer, equal_error_rate, open_embedder
from l3ac_tokenizer.metrics import MetricError

RATE = 16_000
VOICE, OTHER = (speech_like(2 * RATE, seed=seed).numpy() for seed in (0, 1))


def trial(estimate=VOICE, domain="speech", **labels) -> Trial:
    return Trial(EvaluationClip("set", "clip", domain, None, labels), VOICE, estimate)


class Heard:
    """A recognizer that returns prepared texts."""

    label = "told"

    def __init__(self, original: str, decoded: str) -> None:
        self.texts = {VOICE.tobytes(): original, OTHER.tobytes(): decoded}

    def __call__(self, wave):
        return self.texts[wave.tobytes()]


@pytest.fixture
def hearing(monkeypatch):
    def hear(original: str, decoded: str) -> WordErrorScorer:
        monkeypatch.setattr(asr, "open_recognizer", lambda name, device: Heard(original, decoded))
        return WordErrorScorer("told", "cpu")

    return hear


def test_word_errors_are_against_the_transcript_and_against_the_original(hearing):
    scorer = hearing("Good day, my frend.", "good day my")
    found = scorer.score(trial(OTHER, text="GOOD DAY MY FRIEND"))
    assert found == {"wer": (1.0, 4.0), "dwer": (1.0, 4.0)}
    assert hearing("good day", "good night all").score(trial(OTHER)) == {"dwer": (2.0, 2.0)}
    assert hearing("a", "b").score(trial(OTHER, domain="audio")) == {}


def test_nothing_recognized_in_the_original_leaves_wer_alone(hearing):
    assert hearing("", "day").score(trial(OTHER, text="good day")) == {"wer": (1.0, 2.0)}
    with pytest.raises(MetricError, match="nothing is recognized"):
        hearing("", "day").score(trial(OTHER))


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
def test_word_errors_are_the_edit_distance(reference, heard):
    table = np.zeros((len(reference) + 1, len(heard) + 1))
    table[:, 0], table[0] = np.arange(len(reference) + 1), np.arange(len(heard) + 1)
    for i, left in enumerate(reference):
        for j, right in enumerate(heard):
            table[i + 1, j + 1] = min(table[i, j] + (left != right), table[i, j + 1] + 1, table[i + 1, j] + 1)
    assert word_errors(reference, heard) == (table[-1, -1], len(reference))


def test_a_clip_has_a_speaker_similarity_of_1_with_itself():
    scorer = SpeakerSimilarityScorer(
        lambda audio: np.array([1.0, 0.0]) if audio is VOICE else np.array([0.6, 0.8]), "told"
    )
    assert scorer.score(trial()) == {"speaker_similarity": 1.0}
    assert scorer.score(trial(OTHER))["speaker_similarity"] == pytest.approx(0.6)
    assert scorer.score(trial(domain="audio")) == {}


def test_equal_error_rate_of_distinct_speakers_and_of_chance():
    speakers_of = ["a"] * 10 + ["b"] * 10
    apart = [[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10
    assert (equal_error_rate(apart, speakers_of).mean, equal_error_rate(apart, speakers_of).count) == (0.0, 190)
    random = np.random.default_rng(0).standard_normal((60, 8))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    chance = equal_error_rate(random.tolist(), list("abcdef") * 10)
    assert chance.mean == pytest.approx(0.5, abs=0.08)
    assert chance.interval[0] <= chance.mean <= chance.interval[1]
    assert equal_error_rate(apart, ["a"] * 20).mean is None
    assert equal_error_rate([], []).mean is None


def test_equal_error_rate_is_where_both_errors_meet():
    """Four pairs of one speaker and six others in a known order: one of four misses where two of six pass."""
    scores = np.zeros((5, 5))
    order = [
        (0, 1, 1),
        (0, 2, 0),
        (1, 2, 1),
        (0, 3, 1),
        (1, 3, 0),
        (2, 3, 0),
        (0, 4, 1),
        (1, 4, 0),
        (2, 4, 0),
        (3, 4, 0),
    ]
    same = np.zeros((5, 5), bool)
    for rank, (i, j, target) in enumerate(order):
        scores[i, j] = scores[j, i] = -rank
        same[i, j] = same[j, i] = bool(target)
    # After k accepted pairs: false rejections 3/4 3/4 2/4 1/4 1/4, false acceptances 0 1/6 1/6 1/6 2/6.
    found = speaker._eer_of(scores, same, np.arange(5))
    before, after = (1 / 4, 1 / 6), (1 / 4, 2 / 6)
    share = (before[0] - before[1]) / ((before[0] - before[1]) + (after[1] - after[0]))
    assert found == pytest.approx(before[1] + share * (after[1] - before[1])) == pytest.approx(0.25)


WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}


@pytest.fixture
def wav2vec2(tmp_path):
    """Saves a tiny wav2vec 2.0 with the head of a class."""

    def save(kind, **config) -> str:
        torch.manual_seed(0)
        kind(transformers.Wav2Vec2Config(**WAV2VEC2, **config)).save_pretrained(tmp_path)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_any_xvector_model_of_transformers_embeds(wav2vec2):
    name = wav2vec2(
        transformers.Wav2Vec2ForXVector,
        tdnn_dim=[8, 8],
        tdnn_kernel=[3, 1],
        tdnn_dilation=[1, 1],
        xvector_output_dim=8,
        use_weighted_layer_sum=False,
    )
    embed = open_embedder(name)
    assert embed(VOICE).shape == (8,) and np.linalg.norm(embed(VOICE)) == pytest.approx(1, abs=1e-5)
    scorer = SpeakerSimilarityScorer(embed, name)
    assert scorer.score(trial())["speaker_similarity"] == pytest.approx(1, abs=1e-5)
    assert scorer.score(trial(OTHER))["speaker_similarity"] < 1


@pytest.mark.parametrize(("task", "domain"), [("emotion", "speech"), ("event", "audio")])
def test_any_classifier_of_transformers_scores(wav2vec2, task, domain):
    labels = {0: "Calm", 1: "angry", 2: "dog"}
    name = wav2vec2(
        transformers.Wav2Vec2ForSequenceClassification, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    scorer = ClassifierScorer(task, name, "cpu")
    heard = scorer.classify(VOICE)
    assert scorer.score(trial(domain=domain)) == {f"{task}_agreement": 1.0}
    found = scorer.score(trial(domain=domain, **{task: heard.upper()}))
    assert found == {f"{task}_agreement": 1.0, f"{task}_accuracy": 1.0}
    wrong = next(label for label in labels.values() if label != heard)
    assert scorer.score(trial(domain=domain, **{task: wrong}))[f"{task}_accuracy"] == 0.0
    if task == "emotion":
        assert scorer.score(trial(domain="audio")) == {}


def test_a_ctc_model_of_transformers_recognizes(wav2vec2, tmp_path):
    name = wav2vec2(transformers.Wav2Vec2ForCTC, vocab_size=5, pad_token_id=0)
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "A": 3, "B": 4}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), unk_token="<unk>", pad_token="<pad>")
    tokenizer.save_pretrained(name)
    found = WordErrorScorer(name, "cpu").score(trial(text="A B"))
    assert found["wer"][1] == 2 and found.get("dwer", (0, 1))[0] == 0


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, vocab_size=64, pad_token_id=1, bos_token_id=1,
        eos_token_id=1, decoder_start_token_id=2, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


def test_features_of_equal_clips_have_no_distance(whisper):
    scorer = FeatureDistanceScorer(whisper, "cpu")
    assert scorer.score(trial()) == {"feature_distance": 0.0}
    near, far = (
        scorer.score(trial((VOICE + level * OTHER).astype(np.float32)))["feature_distance"] for level in (0.01, 1.0)
    )
    assert 0 < near < far


def test_the_encoder_alone_gives_the_same_distance(whisper, tmp_path):
    model = transformers.WhisperModel.from_pretrained(whisper)
    model.get_encoder().save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["WhisperEncoder"]}))
    whole, alone = (FeatureDistanceScorer(name, "cpu").score(trial(OTHER)) for name in (whisper, str(tmp_path)))
    assert alone["feature_distance"] == pytest.approx(whole["feature_distance"], rel=1e-5)


def test_the_bundled_speaker_encoder_distinguishes_speakers(shared):
    pytest.importorskip("resemblyzer", reason="comes with the extra `eval-offline`")
    import soundfile

    folder = shared / "audio" / "eval" / "speech"
    paths = [sorted(folder.glob(f"librispeech_{reader}-*"))[:2] for reader in (533, 1688)]
    embed = open_embedder("resemblyzer")
    (a, b), (c, _) = [[embed(soundfile.read(path, dtype="float32")[0]) for path in pair] for pair in paths]
    assert a @ b > a @ c + 0.1


@pytest.mark.parametrize(("name", "package"), [("distillmos", "distillmos"), ("dnsmos", "speechmos")])
def test_noise_lowers_predicted_mos(shared, name, package):
    pytest.importorskip(package, reason="comes with the extra `eval-offline`")
    import soundfile

    path = next((shared / "audio" / "eval" / "speech").glob("librispeech_533-*"))
    clip = soundfile.read(path, dtype="float32")[0]
    scorer = PredictedMOSScorer(name, "cpu")
    noise = np.random.default_rng(0).standard_normal(clip.size).astype(np.float32)
    clean, noisy = (scorer.score(trial((clip + level * noise).astype(np.float32))) for level in (0, 0.05))
    assert clean.keys() == scorer.metrics.keys()
    assert all(clean[metric] > noisy[metric] + 0.3 for metric in clean)
    assert scorer.score(trial(domain="audio")) == {}
    with pytest.raises(MetricError, match="silent"):
        scorer.score(trial(np.zeros_like(VOICE)))


@pytest.fixture
def utmos(tmp_path, monkeypatch):
    """A tiny network of UTMOS with random weights, in place of the hub's; returns the commits that are asked for."""
    package = pytest.importorskip("utmos_pytorch.utmos_torch", reason="comes with the extra `eval-offline`")
    config = package.Wav2Vec2Config
    monkeypatch.setattr(package, "Wav2Vec2Config", lambda: config(encoder_layers=1, encoder_ffn_embed_dim=16))
    torch.manual_seed(0)
    torch.save(package.UTMOSModel().state_dict(), tmp_path / "weights.pt")
    asked = []

    def download(repository, file, revision):
        asked.append(revision)
        return str(tmp_path / "weights.pt")

    monkeypatch.setattr(mos, "hf_hub_download", download)
    return asked


def test_utmos_takes_its_weights_at_a_commit_and_scores_the_decoded_clip(utmos):
    scorer = PredictedMOSScorer("utmos", "cpu")
    (commit,) = utmos
    assert len(commit) == 40
    one, same, other = (scorer.score(trial(clip)) for clip in (OTHER, OTHER, VOICE))
    assert one.keys() == scorer.metrics.keys() == {"utmos"}
    assert one == same != other and np.isfinite(one["utmos"])
    assert scorer.score(trial(domain="audio")) == {}


def test_scorers_that_cannot_be_had_are_left_out_with_the_reason(monkeypatch):
    module = types.ModuleType("utmos_pytorch")
    module.UTMOSScoreTorch = None
    monkeypatch.setitem(sys.modules, "utmos_pytorch", module)

    def no_hub(*_, **__):
        raise OSError("no hub")

    monkeypatch.setattr(mos, "hf_hub_download", no_hub)
    monkeypatch.setitem(sys.modules, "librosa", None)
    monkeypatch.setitem(sys.modules, f"{registry.__package__}.peak", types.ModuleType("peak"))
    sys.modules[f"{registry.__package__}.peak"].PeakScorer = PeakScorer
    monkeypatch.setitem(registry.SCORERS, "peak", ScorerEntry("peak:PeakScorer", "peak level"))
    available, missing = available_scorers((("mos", "utmos"), ("f0", "pyin"), ("peak", "any")), "cpu")
    assert available == (("peak", "any"),) and list(missing) == ["utmos", "pyin"]
    assert "no hub" in missing["utmos"] and "pyin needs the package librosa" in missing["pyin"]


@pytest.mark.parametrize("asked", [(("speaker", "no/model"),), (("emotion", "no/model"),), (("features", "no/model"),)])
def test_a_missing_model_is_reported_at_once(asked, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"'no/model' cannot be loaded .*: give a directory, or another name\."):
        EvaluationOptions(scorers=asked).make_scorer()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resemblyzer", None)
    with pytest.raises(ValueError, match=r"resemblyzer needs the package resemblyzer.*l3ac-tokenizer\[eval-offline\]"):
        EvaluationOptions(scorers=(("speaker", "resemblyzer"),)).make_scorer()


@pytest.mark.parametrize("kind", SCORERS)
def test_every_entry_of_the_registry_names_a_callable(kind):
    module, _, name = SCORERS[kind].opener.partition(":")
    assert callable(getattr(importlib.import_module(f"{registry.__package__}.{module}"), name))


def test_an_unknown_scorer_is_refused():
    with pytest.raises(ValueError, match="'taste' is not a scorer: choose one of asr, "):
        open_scorer("taste", "model", "cpu")


class PeakScorer(Scorer):
    """A metric that a newcomer adds: one class."""

    metrics = {"peak": Metric("peak", 2, True, "ours")}  # noqa: RUF012

    def __init__(self, name, device):
        self.name = name

    def score(self, trial):
        return {"peak": float(np.abs(trial.estimate).max())}


def test_a_metric_is_one_class_and_one_entry_of_the_registry(monkeypatch):
    module = types.ModuleType(f"{registry.__package__}.peak")
    module.PeakScorer = PeakScorer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.SCORERS, "peak", ScorerEntry("peak:PeakScorer", "peak level"))
    options = make_parser().parse_args(["evaluate", "data", "-o", "out", "--peak", "any", "--mos", "dnsmos"])
    assert (options.peak, options.mos) == ("any", ["dnsmos"])
    scorer = EvaluationOptions(scorers=(("peak", "any"),)).make_scorer()
    assert scorer.metrics["peak"].title == "peak" and list(scorer.scorers) == ["peak"]
