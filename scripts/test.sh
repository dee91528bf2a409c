#!/usr/bin/env bash
# All tests; arguments go to pytest (`scripts/test.sh tests/robots -n 0`).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
in_test_env pytest "$@"
