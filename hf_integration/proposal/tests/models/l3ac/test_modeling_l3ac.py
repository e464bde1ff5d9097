"""Testing suite for the PyTorch L3AC model."""

import unittest

import torch

from transformers import L3ACConfig, L3ACModel
from transformers.testing_utils import require_torch

from ...test_configuration_common import ConfigTester
from ...test_modeling_common import ModelTesterMixin, floats_tensor


class L3ACModelTester:
    batch_size = 2
    num_samples = 60
    is_training = False

    def get_config(self):
        return L3ACConfig(
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
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"input_values": floats_tensor([self.batch_size, 1, self.num_samples])}

    def prepare_config_and_inputs_for_model_class(self, model_class):
        return self.prepare_config_and_inputs_for_common()


@require_torch
class L3ACModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (L3ACModel,)
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = L3ACModelTester()
        self.config_tester = ConfigTester(
            self,
            config_class=L3ACConfig,
            feature_dim=48,
            common_properties=["hidden_size"],
            has_text_modality=False,
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def test_ids_do_not_depend_on_chunks(self):
        model = L3ACModel(self.model_tester.get_config()).eval()
        audio = floats_tensor([1, 1, 1000])
        with torch.no_grad():
            whole = model.encode(audio).audio_codes
            chunked = model.encode(audio, chunk_seconds=0.01).audio_codes
        torch.testing.assert_close(chunked, whole, rtol=0, atol=0)

    @unittest.skip(reason="L3AC has no input embeddings")
    def test_model_get_set_embeddings(self):
        pass

    @unittest.skip(reason="L3AC returns no attentions")
    def test_attention_outputs(self):
        pass

    @unittest.skip(reason="L3AC returns no hidden states")
    def test_hidden_states_output(self):
        pass

    @unittest.skip(reason="L3AC returns neither attentions nor hidden states")
    def test_retain_grad_hidden_states_attentions(self):
        pass
