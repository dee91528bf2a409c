#!/usr/bin/env bash
# Lint, format and types.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
in_test_env ruff check
in_test_env ruff format --check
in_test_env mypy
