#!/usr/bin/env bash
# Measures the engine against LeRobot on a CUDA device, in one call of under nine minutes: modes plain, exact and fast
# (bfloat16, float16 and float32), one to three cameras, one real camera of three slots, few steps, the distance to the
# roofline, memory; and runs the GPU's own tests. Needs the group `test`. Writes benchmarks/gpu/inference-*.json.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
run() { # name, seconds, arguments
  local name=$1 limit=$2
  shift 2
  echo "== $name"
  timeout "$limit" uv run --group test python benchmarks/inference.py --device cuda "$@" --json \
    > "benchmarks/gpu/inference-$name.json" || { echo "$name: failed or took longer than $limit s"; return; }
  uv run --group test python - "benchmarks/gpu/inference-$name.json" <<'PY'
import json, sys
document = json.load(open(sys.argv[1]))
print(document["machine"]["device"], document["tokens"], document.get("roofline"))
for row in document["rows"]:
    print({key: row[key] for key in ("name", "precision", "total_p50_ms", "total_p95_ms", "network_p50_ms", "memory_mb",
                                     "sigma", "ratio", "note")})
PY
}
timeout 90 uv run --group test pytest -q -n 0 tests/inference/test_cuda.py || echo "tests/inference/test_cuda.py: failed"
run two-cameras 120 --cameras 2 --repeats 30
run one-of-three 100 --cameras 1 --empty 2 --repeats 20
run float16 60 --cameras 2 --engine plain fast --precision float16 --repeats 30 --no-peer
run float32 60 --cameras 2 --engine plain fast --precision float32 --repeats 30 --no-peer
run three-cameras 60 --cameras 3 --engine plain exact fast --repeats 20 --no-peer
run four-steps 45 --cameras 2 --engine plain fast --num-steps 4 --repeats 20 --no-peer
