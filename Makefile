# make demo [AUDIO=path]  a recording to ids and back, measured; results in demo/ (the default)
# make test               the suite without its slow tests
# make test-all           the whole suite
# make test-transformers  the model, configuration and feature-extractor tests of transformers
# make fuzz               every reader of files from outside on mutated files; ten minutes
# make lint               ruff and mypy
# make bench              speed and memory beside other codecs, into docs/reports/speed.md; hours, on a quiet machine
# make latency            look-ahead and latency of every preset, into docs/reports/latency*.md; half an hour
# make report             quality of the bundled weights, into docs/reports/{results,standard}.md; needs L3AC_SHARED
# make check-published AUDIO=folder  the authors' weights, downloaded and measured; needs a network
# make env                .venv with every extra (the other targets install what they need themselves)
# make help               this list

PYTHON ?= python3
AUDIO ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The whole `eval` extra would compile PESQ, which the demo does not report: a fresh machine has no compiler.
DEMO_REQUIREMENTS := --editable . torchmetrics pystoi matplotlib
TEST_REQUIREMENTS := --editable .[dev,data,eval,train,onnx,formats,serve,cloud]
ENV_REQUIREMENTS := --editable .[dev,eval,eval-offline,train,data,ray,onnx,formats,serve,cloud]

# Real audio and golden numbers, if they are beside the checkout; tests that need them are skipped otherwise.
L3AC_SHARED ?= $(patsubst %/reference,%,$(abspath $(wildcard ../shared/reference)))
ifneq ($(L3AC_SHARED),)
export L3AC_SHARED
endif

.PHONY: demo test test-all test-transformers fuzz lint bench latency report check-published env help

demo: $(VENV)/demo.stamp
	$(BIN)/l3ac demo $(if $(AUDIO),"$(AUDIO)")

test test-all test-transformers: export HF_HUB_OFFLINE = 1
# Tests run in parallel, each on one thread; neighbors, which share fixtures, in one process as far as possible.
test test-all test-transformers: export OMP_NUM_THREADS = 1

test: $(VENV)/test.stamp
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-all: $(VENV)/test.stamp
	$(BIN)/pytest -n auto --dist worksteal

# These tests come from the source distribution of the installed version of transformers.
test-transformers: $(VENV)/test.stamp
	@version=$$($(BIN)/python -c "import importlib.metadata as m; print(m.version('transformers'))"); \
	sources=transformers-$$version; \
	test -d $(VENV)/$$sources || { \
		$(BIN)/pip download --quiet --no-deps --no-binary transformers --dest $(VENV) transformers==$$version && \
		tar --extract --file $(VENV)/$$sources.tar.gz --directory $(VENV) $$sources/tests; \
	} && TRANSFORMERS_SOURCES=$(abspath $(VENV))/$$sources $(BIN)/pytest -n auto tests/transformers_common

fuzz: export HF_HUB_OFFLINE = 1
fuzz: export OMP_NUM_THREADS = 1
fuzz: $(VENV)/test.stamp
	PYTHONPATH=tests $(BIN)/python tests/strangers/fuzz.py

lint: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The loss of quality is measured on clips from L3AC_SHARED. BENCH_SPEED="--durations 1 10 60 --batches 1 --rounds 3"
# shortens the last benchmark to a quarter of an hour.
bench: export HF_HUB_OFFLINE = 1
bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.streaming
	$(BIN)/python -m benchmarks.onnx_operators
	$(if $(L3AC_SHARED),$(BIN)/python -m benchmarks.precision $(L3AC_SHARED)/audio/eval/speech)
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.speed $(BENCH_SPEED)

# Look-ahead of every preset, and the bundled model's quality over the length of a clip.
latency: export HF_HUB_OFFLINE = 1
latency: $(VENV)/test.stamp
	$(BIN)/l3ac analyze --random l3ac-1k l3ac-0k75 l3ac-1k5 l3ac-3k sqcodec-0k75 sqcodec-1k5 sqcodec-3k sqcodec-6k \
		sqcodec-12k sqcodec-12k-24khz sqcodec-24k-24khz -o docs/reports/latency.md
	$(BIN)/l3ac analyze --random l3ac-1k-light l3ac-0k75-light l3ac-1k5-light l3ac-3k-light \
		-o docs/reports/latency-light.md
	$(if $(L3AC_SHARED),$(BIN)/l3ac analyze l3ac-1k --lengths $(L3AC_SHARED)/audio/eval/long -o docs/reports/latency-l3ac-1k.md)

# Rows are kept in results/: a stopped run resumes, and only new weights are measured again.
report: export OMP_NUM_THREADS = 1
report: $(VENV)/env.stamp
	@test -d "$(L3AC_SHARED)/audio/eval" || { echo "make report: L3AC_SHARED must name a folder with audio/eval"; exit 1; }
	$(BIN)/python recipes/report.py "$(L3AC_SHARED)"

check-published: $(VENV)/env.stamp
	@test -d "$(AUDIO)" || { echo "make check-published: AUDIO must name a folder with speech"; exit 1; }
	$(BIN)/python -m benchmarks.check_published "$(AUDIO)"

env: $(VENV)/env.stamp

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(DEMO_REQUIREMENTS)
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) $(TEST_REQUIREMENTS)
	$(INSTALL_SPEECHBRAIN)
	touch $@ $(VENV)/demo.stamp

# speechbrain needs torchaudio, whose only builds link to CUDA. Without CUDA, importing torchaudio fails, and with it
# speechbrain and even transformers.PreTrainedModel. Then the other requirements of speechbrain are listed here, and
# only the Python part of torchaudio stays, which is all that speechbrain uses.
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
