# make demo [AUDIO=path]  hear and measure what one stream of ids keeps of a recording; results in demo/
# make test               the suite without its slow part
# make lint               ruff and mypy
# make bench              speed and memory beside other codecs, into docs/reports/speed.md; takes hours, on a quiet machine
# make latency            what ids and samples must wait for, every preset, into docs/reports/latency.md; half an hour
# make report             quality of the bundled weights beside anchors and the papers, into docs/reports/results.md; needs L3AC_SHARED
# make env                .venv with every extra (demo and test make .venv with what they need themselves)

PYTHON ?= python3
AUDIO ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The whole `eval` extra would compile PESQ, which the demo does not report: a fresh machine has no compiler.
DEMO_REQUIREMENTS := --editable . torchmetrics pystoi matplotlib
TEST_REQUIREMENTS := --editable .[dev,data,eval,train,onnx]
ENV_REQUIREMENTS := --editable .[dev,eval,eval-offline,train,data,ray,onnx]

# Real audio and golden numbers, where they lie beside the checkout; without them, the tests that need them skip.
L3AC_SHARED ?= $(patsubst %/reference,%,$(abspath $(wildcard ../shared/reference)))
ifneq ($(L3AC_SHARED),)
export L3AC_SHARED
endif

.PHONY: demo test test-all test-transformers lint bench latency report env

demo: $(VENV)/demo.stamp
	$(BIN)/l3ac demo $(if $(AUDIO),"$(AUDIO)")

test test-all test-transformers: export HF_HUB_OFFLINE = 1
# Tests run side by side, each on one thread.
test test-all test-transformers: export OMP_NUM_THREADS = 1

test: $(VENV)/test.stamp
	$(BIN)/pytest -n auto -m "not slow"

test-all: $(VENV)/test.stamp
	$(BIN)/pytest -n auto

# transformers' own tests of a model, a configuration and a feature extractor, from the source distribution of the
# installed version.
test-transformers: $(VENV)/test.stamp
	@version=$$($(BIN)/python -c "import importlib.metadata as m; print(m.version('transformers'))"); \
	sources=transformers-$$version; \
	test -d $(VENV)/$$sources || { \
		$(BIN)/pip download --quiet --no-deps --no-binary transformers --dest $(VENV) transformers==$$version && \
		tar --extract --file $(VENV)/$$sources.tar.gz --directory $(VENV) $$sources/tests; \
	} && TRANSFORMERS_SOURCES=$(abspath $(VENV))/$$sources $(BIN)/pytest -n auto tests/transformers_common

lint: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The clips for the loss of quality lie where L3AC_SHARED says. BENCH_SPEED="--durations 1 10 60 --batches 1 --rounds 3"
# is a quarter of an hour's worth.
bench: export HF_HUB_OFFLINE = 1
bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.streaming
	$(if $(L3AC_SHARED),$(BIN)/python -m benchmarks.precision $(L3AC_SHARED)/audio/eval/speech)
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.speed $(BENCH_SPEED)

# Look-ahead of every preset, and the bundled model's quality over the length of a clip.
latency: export HF_HUB_OFFLINE = 1
latency: $(VENV)/test.stamp
	$(BIN)/l3ac analyze --random l3ac-1k l3ac-0k75 l3ac-1k5 l3ac-3k sqcodec-0k75 sqcodec-1k5 sqcodec-3k sqcodec-6k \
		sqcodec-12k sqcodec-12k-24khz sqcodec-24k-24khz -o docs/reports/latency.md
	$(if $(L3AC_SHARED),$(BIN)/l3ac analyze l3ac-1k --lengths $(L3AC_SHARED)/audio/eval/long -o docs/reports/latency-l3ac-1k.md)

# Rows are kept in results/: what a run that was stopped has left, and what other weights do not change, is not made again.
report: export OMP_NUM_THREADS = 1
report: $(VENV)/env.stamp
	@test -d "$(L3AC_SHARED)/audio/eval" || { echo "make report: L3AC_SHARED must name a folder with audio/eval"; exit 1; }
	$(BIN)/python recipes/report.py "$(L3AC_SHARED)"

env: $(VENV)/env.stamp

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(DEMO_REQUIREMENTS)
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(TEST_REQUIREMENTS)
	$(INSTALL_SPEECHBRAIN)
	touch $@ $(VENV)/demo.stamp

# speechbrain needs torchaudio, of which PyPI has only builds that link to CUDA: on a machine without it, importing
# torchaudio fails, and with it speechbrain and even transformers.PreTrainedModel. There, speechbrain gets its other
# requirements by hand, and of torchaudio the Python part, which is all that speechbrain uses.
ifneq ($(shell command -v nvidia-smi),)
INSTALL_SPEECHBRAIN := $(INSTALL) --editable .[speechbrain]
else
INSTALL_SPEECHBRAIN := $(INSTALL) hyperpyyaml sentencepiece joblib scipy requests packaging && \
	$(INSTALL) --no-deps speechbrain torchaudio==2.11.0 && find $(VENV)/lib -path '*/torchaudio/*.so' -delete
endif

$(VENV)/env.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(ENV_REQUIREMENTS)
	$(INSTALL_SPEECHBRAIN)
	$(INSTALL) --no-deps distillmos xls-r-sqa  # they need torchaudio too
	touch $@ $(VENV)/test.stamp $(VENV)/demo.stamp
