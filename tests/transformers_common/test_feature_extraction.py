"""transformers' tests of a sequence feature extractor, run on ours."""

import unittest

import numpy as np
import pytest

from l3ac_tokenizer.feature_extraction import CodecFeatureExtractor

from . import sources

if not sources.is_available():
    pytest.skip("transformers' own tests are run by `make test-transformers`", allow_module_level=True)


class FeatureExtractionTester:
    """What the mixin asks of a model's tester: three clips, each longer than the one before."""

    batch_size = 3
    min_seq_length = 400
    seq_length_diff = 200
    max_seq_length = min_seq_length + (batch_size - 1) * seq_length_diff
    feature_size = 1

    def prepare_feat_extract_dict(self):
        return {"feature_size": self.feature_size, "sampling_rate": 16_000, "padding_value": 0.0}

    def prepare_inputs_for_common(self, equal_length=False, numpify=False):
        random = np.random.default_rng(0)
        lengths = range(self.min_seq_length, self.max_seq_length + 1, self.seq_length_diff)
        clips = [random.uniform(-1, 1, self.max_seq_length if equal_length else length) for length in lengths]
        return clips if numpify else [clip.tolist() for clip in clips]


class L3ACFeatureExtractionTest(
    sources.module("test_sequence_feature_extraction_common").SequenceFeatureExtractionTestMixin,
    unittest.TestCase,
):
    feature_extraction_class = CodecFeatureExtractor

    def setUp(self):
        self.feat_extract_tester = FeatureExtractionTester()
