#!/usr/bin/env bash
# Lints and tests the project in its virtual environment (VENV, default .venv; made with PYTHON), in JOBS processes
# (default 2).  --quick skips the slow tests; other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" != --quick ] || set -- -m 'not slow' "${@:2}"
python=${PYTHON:-python3}
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
exec "$venv/bin/python" -m pytest --numprocesses="${JOBS:-2}" --dist=loadfile --no-loadscope-reorder "$@"
