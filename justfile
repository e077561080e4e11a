# What people type while working on biollm. `just` lists it.

default:
    @just --list

# Build the extension into the source tree and install the package editable
develop:
    pip install -q 'maturin>=1.9,<2'
    maturin develop --profile develop --extras all,test

# All tests
test:
    cargo nextest run --workspace
    pytest -q

# All benches that can run with what is installed
bench:
    pytest --benchmark-only

# Lints as CI runs them
lint:
    cargo fmt --all --check
    cargo clippy -q --workspace --all-targets -- -D warnings
    ruff check .
    ruff format --check .
    mypy
    python -m mypy.stubtest biollm._native --allowlist tests/stubtest_allowlist.txt --ignore-unused-allowlist

# Everything CI does
ci:
    .ci/run
