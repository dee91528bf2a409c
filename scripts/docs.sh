#!/usr/bin/env bash
# Check that every relative link and every smolpilot command in the documents exists.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
in_test_env python scripts/check_docs.py
