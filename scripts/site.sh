#!/usr/bin/env bash
# Build the documents and the API reference as a site in site/; a warning is an error. Arguments go to mkdocs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# In an environment of its own, without the package: nothing is imported to read its docstrings.
NO_MKDOCS_2_WARNING=1 "${UV[@]}" run --quiet --isolated --only-group site mkdocs build --strict "$@"
echo "site/index.html"
