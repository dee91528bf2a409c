#!/usr/bin/env bash
# Measures training steps of the 450 M model against LeRobot on a CUDA device, in one call: without cache, with cached
# vision and prefix, both of LeRobot's precisions, the losses of 30 steps. Writes benchmarks/gpu/training.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
common=(--device cuda --cameras 2 --repeats 10 --curve 30)
uv run --group test python benchmarks/training.py "${common[@]}" --batch 8
uv run --group test python benchmarks/training.py "${common[@]}" --batch 32 --json > benchmarks/gpu/training.json
