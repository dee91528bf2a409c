#!/usr/bin/env bash
# Install smolpilot and its pinned packages into .venv (uv where it is missing). `install.sh --group test` adds the
# tests' packages, `--extra lerobot` LeRobot.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"${UV[@]}" sync "$@"
"${UV[@]}" run --no-sync smolpilot --version
