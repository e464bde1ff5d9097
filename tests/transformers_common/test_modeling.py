"""transformers' tests of a model and of a configuration, run on ours with tiny networks."""

import inspect
import unittest

import pytest

from l3ac_tokenizer import L3ACConfig, L3ACEncoderModel, L3ACModel, TAAEConfig, TAAEEncoderModel, TAAEModel

from . import sources

if not sources.is_available():
    pytest.skip("transformers' own tests are run by `make test-transformers`", allow_module_level=True)

common = sources.module("test_modeling_common")


class ModelTester:
    """What the mixin asks of a model's tester: a tiny configuration and inputs for it."""

    batch_size = 2
    num_samples = 60  # four ids, the last one partial
    is_training = False

    def __init__(self, config_class, **values):
        self.config_class = config_class
        self.values = values

    def get_config(self):
        return self.config_class(**self.values)

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"input_values": common.floats_tensor([self.batch_size, 1, self.num_samples])}

    def prepare_config_and_inputs_for_model_class(self, model_class):
        return self.prepare_config_and_inputs_for_common()


class CodecTests(common.ModelTesterMixin):
    """What is the same for all families."""

    test_resize_embeddings = False  # audio in, no token embeddings

    def setUp(self):
        self.model_tester = self.tester()
        self.config_tester = sources.module("test_configuration_common").ConfigTester(
            self,
            config_class=self.model_tester.config_class,
            common_properties=["hidden_size"],
            has_text_modality=False,
            **self.another_width,
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_the_model_is_tiny(self):
        assert self.all_model_classes[0](self.model_tester.get_config()).num_parameters() < 1_000_000

    def test_forward_signature(self):
        names = list(inspect.signature(self.all_model_classes[0].forward).parameters)
        assert names[1:3] == ["input_values", "padding_mask"]

    @unittest.skip("audio in: there are no input embeddings to get or set")
    def test_model_get_set_embeddings(self):
        pass

    @unittest.skip("codecs return no attentions")
    def test_attention_outputs(self):
        pass

    @unittest.skip("codecs return no hidden states")
    def test_hidden_states_output(self):
        pass

    @unittest.skip("codecs return neither attentions nor hidden states")
    def test_retain_grad_hidden_states_attentions(self):
        pass


class L3ACModelTest(CodecTests, unittest.TestCase):
    all_model_classes = (L3ACModel, L3ACEncoderModel)
    another_width = {"feature_dim": 48}  # noqa: RUF012
    ends = {}  # noqa: RUF012

    def tester(self):
        return ModelTester(
            L3ACConfig,
            feature_dim=24,
            encoder_rates=[4, 2],
            encoder_dims=[4, 6, 8],
            encoder_depths=[1, 1, 1],
            encoder_layers=[1, 1],
            compress_rate=2,
            decoder_rates=[4, 2],
            decoder_dims=[8, 6, 4],
            decoder_depths=[1, 1],
            decoder_layers=[1, 1],
            attention_window=2,
            levels=[3, 5],
            **self.ends,
        )


class LightModelTest(L3ACModelTest):
    ends = {  # noqa: RUF012
        "analysis": "spectral",
        "synthesis": "spectral",
        "attention": "sliding",
        "analysis_depth": 1,
        "synthesis_dim": 8,
        "synthesis_depth": 1,
    }


class TAAEModelTest(CodecTests, unittest.TestCase):
    all_model_classes = (TAAEModel, TAAEEncoderModel)
    another_width = {"hidden_size": 512}  # noqa: RUF012

    def tester(self):
        return ModelTester(
            TAAEConfig,
            hidden_size=32,
            num_attention_heads=1,
            patch_size=8,
            depths=[1, 1],
            strides=[1, 2],
            attention_window=[2, 1],
            levels=[3, 5],
        )


del CodecTests  # or it would be run by itself
