#!/usr/bin/env bash
# Runs the commands of README.md and docs/ on the phantom, at the smallest scale, so that none of them rots; or those of
# the pages that are named:  bash launch/docs.sh docs/prediction.md
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]'
exec "$venv/bin/python" tests/run_documents.py "$@"
