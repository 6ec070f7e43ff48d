# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data

.PHONY: demo page test check check-all docs screenshots evidence-main evidence-sequences evidence-pairs evidence-images evidence-house evidence-verdict evidence-mix evidence-serve evidence-explain evidence-overhead evidence-speed benchmark-peers clean

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/test: .venv/core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.venv/dev: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@

.venv/browser: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	@touch $@

.venv/serve: .venv/core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve]'
	@touch $@

.venv/docs: .venv/core
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

demo: .venv/core  ## set up, compare six model types on the bundled plays, say where the report is
	$(BIN)/chainrule compare --budget 20s --out demo
	@printf '\nTo see in a browser what each of these models expects, remembers and uses:\n  make page\n'

page: .venv/serve  ## the page of the runs that `make demo` trained, at http://127.0.0.1:8000 (Ctrl+C stops)
	@test -f demo/board.json || { echo "make page shows what make demo trained: type make demo first" >&2; exit 2; }
	$(BIN)/chainrule serve demo

test: .venv/test  ## set up, run the suite
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

check: .venv/dev  ## format, lint, types, import contracts, docstrings and their examples, limits on size
	$(BIN)/ruff format --check chainrule tests examples benchmarks
	$(BIN)/ruff check chainrule tests examples benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit/test_habits.py tests/unit/test_docstrings.py

docs: .venv/docs  ## these pages and the Python reference as HTML in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

check-all: check docs .venv/browser  ## everything, the slow and statistical tests, those in a browser, the pages and the wheel too
	$(BIN)/python -m pytest

screenshots: .venv/browser  ## the pictures of the page in docs/images, from runs of a minute
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/browser/test_browser_screenshots.py

evidence-main: .venv/test  ## measure what the first milestone must show; tables under docs/evidence (DATA=path)
	$(BIN)/python benchmarks/evidence_main.py --data $(DATA)

evidence-sequences: .venv/test  ## the same for Markov and hidden Markov models, tagging and Bayes
	$(BIN)/python benchmarks/evidence_sequences.py --data $(DATA)

evidence-pairs: .venv/test  ## the same for translation, BERT and neural labels (hours)
	$(BIN)/python benchmarks/evidence_pairs.py --data $(DATA)

evidence-images: .venv/test  ## the same for images: labels, tokens, drawing (hours)
	$(BIN)/python benchmarks/evidence_images.py --data $(DATA)

evidence-mix: .venv/test  ## the same for mixtures of finished runs, on the bundled plays and Korean text (20 minutes)
	$(BIN)/python benchmarks/evidence_mix.py --data $(DATA)

evidence-house: .venv/dev  ## the rebuilt product side: fingerprints, boards, frames, kills, structure, speed against 6d658b9 (one hour)
	$(BIN)/python benchmarks/evidence_house.py --data $(DATA)

evidence-verdict: .venv/test  ## recommendations after 30 s a row against the ranking after 5 min (7 hours)
	$(BIN)/python benchmarks/evidence_verdict.py --data $(DATA)

evidence-serve: .venv/test  ## the server against lm-evaluation-harness, against faults, and its speed
	$(BIN)/python benchmarks/evidence_serve.py

evidence-explain: .venv/test  ## explanations against theory and known answers (one hour)
	$(BIN)/python benchmarks/evidence_explain.py

benchmark-peers: .venv-peers/peers  ## an environment of its own for what speed is measured against

.venv-peers/peers: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

evidence-speed: .venv/test .venv-peers/peers  ## decoding, training and loading against peers, on a quiet machine (over an hour)
	$(BIN)/python benchmarks/evidence_speed.py --data $(DATA)

evidence-overhead: .venv/test  ## what a comparison costs beyond training, at 45 s and 5 min a row (40 minutes)
	$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf .venv .venv-peers demo docs/_build
