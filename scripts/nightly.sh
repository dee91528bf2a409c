#!/usr/bin/env bash
# What is too long for every change: each part in turn, the later ones also after a failure; exit code 1 when one failed.
#
#   scripts/nightly.sh                  all parts
#   scripts/nightly.sh fuzz network     these
#   scripts/nightly.sh --list           their names
#
# Logs: NIGHTLY_LOGS, by default runs/nightly/DATE; one file for each part. NIGHTLY_FUZZ_SECONDS: 600 by default.
# NIGHTLY_PYTHON: 3.13 by default, or the path of one.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

declare -A PARTS=(
  [demo]="as a user runs it: 500 demonstrations, training, closed loops, its goals"
  [kills]="conversions and trainings that are killed at random and go on, five times over"
  [arm]="hostile chunks on the bytes of an emulated bus, a thousand; the promises of docs/safety.md, each fault again"
  [hour]="an hour of smolpilot run on the emulated arm: memory, descriptors, cadence"
  [fuzz]="hostile bytes in every file that is read"
  [network]="every verb without a network, LeRobot beside it, watched"
  [long]="the tests that are marked as nightly"
  [metaworld]="Meta-World in an interpreter of its own: installed, compared with LeRobot's, as a user goes"
  [libero]="LIBERO in an interpreter of its own: installed, compared with LIBERO's own, the floors in ten tasks"
  [python313]="all tests in Python 3.13, in an environment of its own"
  [documents]="links and commands of the documents, the page of dataset view in a browser"
  [site]="the site with the API reference, without a warning"
  [workflows]="the workflows, with actionlint"
  [pins]="the pinned versions resolve to themselves"
)
ORDER=(documents site workflows pins network kills arm long metaworld libero fuzz demo hour python313)

demo() { in_test_env smolpilot demo --out "$LOGS/demo"; }
kills() {
  for _ in 1 2 3 4 5; do
    in_test_env pytest tests/datasets/test_convert_kill.py tests/training/run/test_sigkill.py || return 1
  done
}
arm() {
  SMOLPILOT_BYTES_EXAMPLES=1000 in_test_env pytest -n 0 tests/runtime/safety/test_bytes.py
  for _ in 1 2 3; do in_test_env pytest -n 0 tests/runtime/safety --deselect tests/runtime/safety/test_bytes.py || return 1; done
}
hour() { in_test_env python benchmarks/run_soak.py hold-state --minutes 60 --rate 50 --schedule async; }
fuzz() { SMOLPILOT_FUZZ_SECONDS="${NIGHTLY_FUZZ_SECONDS:-600}" in_test_env pytest -n 0 tests/fuzz; }
network() { in_test_env pytest -n 0 tests/cli/test_network.py tests/oracle/test_network_oracle.py -m "nightly or not nightly"; }
long() { in_test_env pytest -m nightly; }
metaworld() {
  in_test_env smolpilot env install metaworld "$LOGS/metaworld"
  SMOLPILOT_METAWORLD_PYTHON="$LOGS/metaworld" in_test_env pytest -n 0 -m "nightly or not nightly" tests/environments/simulated/test_metaworld.py
  in_test_env python benchmarks/metaworld_experts.py --env-python "$LOGS/metaworld"
}
libero() {
  in_test_env smolpilot env install libero "$LOGS/libero"
  SMOLPILOT_LIBERO_PYTHON="$LOGS/libero" in_test_env pytest -n 0 tests/environments/simulated/test_libero.py
  in_test_env smolpilot rollout hold-state --env libero/libero_spatial_swap/0 --env-python "$LOGS/libero" \
    --env-settings max_steps=20 --episodes 2 --jobs 1 --out "$LOGS/libero-rollout"
  in_test_env python benchmarks/libero_floors.py --env-python "$LOGS/libero" --sheet "$LOGS/libero.png"
}
python313() {
  UV_PROJECT_ENVIRONMENT="$LOGS/venv-3.13" "${UV[@]}" run --python "${NIGHTLY_PYTHON:-3.13}" --group test pytest
}
documents() { in_test_env python scripts/check_docs.py && in_test_env pytest tests/datasets/test_view_browser.py; }
site() { scripts/site.sh; }
workflows() { "${UV[@]}" run --isolated --only-group workflows actionlint; }
pins() { in_test_env python scripts/refresh_pins.py --check; }

if [ "${1:-}" = --list ]; then
  for part in "${ORDER[@]}"; do printf '%-11s %s\n' "$part" "${PARTS[$part]}"; done
  exit 0
fi
chosen=("$@")
[ $# -gt 0 ] || chosen=("${ORDER[@]}")
for part in "${chosen[@]}"; do
  if [ -z "${PARTS[$part]:-}" ]; then
    echo "There is no part '$part'. Known: ${ORDER[*]}" >&2
    exit 2
  fi
done
LOGS=$(realpath -m "${NIGHTLY_LOGS:-runs/nightly/$(date +%F-%H%M%S)}")
mkdir -p "$LOGS"
failed=()
for part in "${chosen[@]}"; do
  echo "$part: ${PARTS[$part]}"
  begin=$SECONDS
  # In a shell of its own, so that no part ends the others; `set -e` does not hold within a condition.
  if (set -e; "$part") >"$LOGS/$part.log" 2>&1; then
    verdict=passed
  else
    verdict=FAILED
    failed+=("$part")
  fi
  echo "  $verdict in $((SECONDS - begin)) s; $LOGS/$part.log"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
