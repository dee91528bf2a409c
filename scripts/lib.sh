# Shared by the scripts: goes to the repository's root and finds uv, installing it where it is missing.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if uv --version >/dev/null 2>&1; then
  UV=(uv)
else
  if ! python3 -m uv --version >/dev/null 2>&1; then
    echo "installing uv" >&2
    python3 -m pip install --quiet uv
  fi
  # As a module: the command may not be on the PATH of this shell yet.
  UV=(python3 -m uv)
fi

in_test_env() {
  "${UV[@]}" run --group test "$@"
}
