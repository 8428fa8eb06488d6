# `make quick` and `make test` need git, make and Python 3.11 or newer with venv; `make help` lists the rest.

SHELL = /bin/sh
CORES = all
CONFIG =
PYTHON = python3.11 python3.12 python3.13 python3

ifneq ($(CONFIG),)
configuration = --configfile config/config.yaml $(CONFIG)
endif
# What is planned: another file in the place of config/config.yaml, and targets.
CONFIGFILE = config/config.yaml
TARGET =
planned = $(TARGET) --configfile $(CONFIGFILE) $(CONFIG)
# The last file that names a scale wins, as in Snakemake; included files are not looked at.
scale := $(shell sed -n 's/^scale:[^a-z0-9_]*\([a-z0-9_]*\).*/\1/p' config/config.yaml $(CONFIG) | tail -n 1)
results = results/$(scale)
report = $(results)/report.html

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The library of this folder, also where several checkouts share one environment.
export PYTHONPATH := $(CURDIR)/src$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: help quick test test-slow slurm-test lint bench bench-attacks bench-attribution bench-feature-losses bench-purifiers bench-distances bench-dense-attacks budget plan unit-costs clean clean-results

help:
	@echo "make quick          install what is needed, run the quick scale, write its report"
	@echo "make test           run the tests (make test-slow: those that take long)"
	@echo "make slurm-test     a run on a real SLURM started here, disturbed in every way (Debian, as root)"
	@echo "make lint           ruff, mypy, snakefmt and Snakemake's own lint"
	@echo "make budget         what the jobs of the last runs cost, by rule, or those of one experiment (TARGET=NAME)"
	@echo "make plan           what a run will take before it starts: hours, disk, the longest chain"
	@echo "make unit-costs     measure on this machine what that needs (once, some minutes)"
	@echo "make bench-attacks  our attacks against other libraries', in an environment of its own"
	@echo "make bench-attribution  leave-one-out features: the authors' way, full passes, ours"
	@echo "make bench-feature-losses  training with feature losses: the loss network's share, the kept maps' gain"
	@echo "make bench-purifiers  what purifying costs in passes of the denoiser"
	@echo "make bench-distances  the distances job against the bare passes that it needs"
	@echo "make bench-dense-attacks  attacks on predictions of every pixel against their bare passes"
	@echo "make bench          the other benchmarks"
	@echo "make clean          remove the environments and caches"
	@echo "make clean-results  remove results, logs, benchmark files and Snakemake's records"
	@echo
	@echo "Settings: CORES=2 (all)  CONFIG=mine.yaml (laid over config/config.yaml)  PYTHON=/path/to/python3"
	@echo "          of plan, unit-costs and budget also CONFIGFILE=config/papers.yaml  TARGET=NAME"

quick: .venv/run.stamp
	@python -m advdenoise unlock
	snakemake --cores $(CORES) --rerun-incomplete $(configuration)
	@if [ ! -e $(report) ] || [ -n "$$(find $(results)/tables $(results)/figures -type f -newer $(report))" ]; then \
		echo "snakemake --report $(report) $(configuration)"; \
		snakemake --report $(results)/report.part.html $(configuration) --quiet all && \
			mv $(results)/report.part.html $(report); \
	fi
	@echo "Tables: $(results)/tables   Figures: $(results)/figures   Report: $(report)"

test: .venv/dev.stamp
	python -m pytest -q

test-slow: .venv/dev.stamp
	python -m pytest -q -m slow

slurm-test: .venv/dev.stamp
	python -m pytest -q -s -m slurm tests/slurm

lint: .venv/dev.stamp
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile rules workflow
	snakemake --lint

budget: .venv/run.stamp
	@python -m tools.plan.costs $(if $(TARGET),--configfile $(CONFIGFILE) $(CONFIG) -- $(TARGET))

plan: .venv/run.stamp
	@python -m tools.plan $(planned)

unit-costs: .venv/run.stamp
	@python -m tools.plan.unit_costs $(planned)

bench-attacks: .venv-benchmark/benchmark.stamp
	.venv-benchmark/bin/python -m bench.attacks

bench-attribution: .venv/dev.stamp
	python -m bench.leave_one_out

bench-feature-losses: .venv/dev.stamp
	python -m bench.feature_loss

bench-purifiers: .venv/dev.stamp
	python -m bench.purifiers

bench-distances: .venv/dev.stamp
	python -m bench.distances

bench-dense-attacks: .venv/dev.stamp
	python -m bench.dense_attacks

bench: .venv/dev.stamp
	@for file in bench/*.py; do \
		name=$$(basename $$file .py); \
		case $$name in __init__ | attacks | leave_one_out | feature_loss) continue ;; esac; \
		echo "python -m bench.$$name"; python -m bench.$$name || exit 1; \
	done

clean:
	rm -rf .venv .venv-benchmark .pytest_cache .ruff_cache .mypy_cache .hypothesis build src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-results:
	rm -rf results logs benchmarks .snakemake

# The stamps: a set is installed again only when its pins are newer.

.venv/run.stamp: envs/run.txt pyproject.toml .venv/uv.stamp
	@$(call install,.venv,run)

.venv/dev.stamp: envs/dev.txt pyproject.toml .venv/uv.stamp
	@$(call install,.venv,dev)
	@touch .venv/run.stamp

.venv-benchmark/benchmark.stamp: envs/benchmark.txt pyproject.toml .venv-benchmark/uv.stamp
	@$(call install,.venv-benchmark,benchmark)

%/uv.stamp: envs/uv.txt
	@for python in $(PYTHON); do \
		if "$$python" -c "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))" 2> /dev/null; then \
			echo "Making $* with $$("$$python" --version)."; \
			"$$python" -m venv $* || exit 1; \
			$*/bin/python -m pip install --quiet --require-hashes -r envs/uv.txt || echo "uv cannot be installed; pip will do."; \
			touch $@; \
			exit 0; \
		fi; \
	done; \
	echo "No Python 3.11 or newer with venv is among \"$(PYTHON)\": install one (Debian: python3 and python3-venv) or name it, make PYTHON=/path/to/python3." >&2; \
	exit 1

# install(environment, set): by uv, which is fast, or else by pip, which knows the user's pip settings.
# Compiled here, once: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each job would
# compile what it imports anew, half of its start. The library is installed as a link to src/, with
# the pinned setuptools and without a network.
define install
echo "Installing envs/$(2).txt into $(1) (several GB; once)."; \
$(1)/bin/uv pip install --python $(1)/bin/python --compile-bytecode --require-hashes -r envs/$(2).txt \
	|| { echo "uv could not; trying pip."; $(1)/bin/python -m pip install --quiet --require-hashes -r envs/$(2).txt; } \
	&& { $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(linked) \
	|| $(1)/bin/python -m pip install --quiet $(linked); } \
	&& touch $(1)/$(2).stamp
endef
linked = --no-deps --no-build-isolation --no-index --editable .
