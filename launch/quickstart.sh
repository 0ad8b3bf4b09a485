#!/usr/bin/env bash
# Trains SynSeg-Net and a segmentor without adaptation on the embedded phantom: about 10 minutes on 2 CPU cores.
# Results, figures and checkpoints are in runs/quickstart.  Arguments go to synseg_jax.main.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing into $venv (the first time: a few minutes) ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable .
exec "$venv/bin/python" -m synseg_jax.main --config=configs/quickstart.py "$@"
