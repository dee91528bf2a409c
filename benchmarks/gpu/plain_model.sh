#!/usr/bin/env bash
# Measures the plain network against LeRobot on a CUDA device, in one call: the parity tests of the 450 M model on its
# CPU are not repeated here. Needs the group `test` (LeRobot 0.6.1). Writes the result to benchmarks/gpu/plain_model.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for cameras in 1 2; do
  uv run --group test python benchmarks/plain_model.py --device cuda --batch 8 --cameras "$cameras" --repeats 10
done
uv run --group test python benchmarks/plain_model.py --device cuda --batch 8 --repeats 10 --json > benchmarks/gpu/plain_model.json
