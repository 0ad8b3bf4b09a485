#!/usr/bin/env bash
# Trains on a Cloud TPU slice: copies the project to all workers, installs it, and starts one process per worker.
#     bash launch/tpu.sh NAME ZONE --config=configs/prostate_ssim.py:/mnt/records/prostate --workdir=/mnt/runs/prostate
# Records and workdir must be on a disk that all workers mount.  PYTHON is the workers' interpreter, 3.11 or newer.
# A lost connection does not stop the workers.  To stop them with a checkpoint:
#     gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command='pkill --full "[s]ynseg_jax.main"'
set -euo pipefail
cd "$(dirname "$0")/.."
(($# > 2)) || { echo 'usage: bash launch/tpu.sh NAME ZONE --config=... --workdir=...' >&2; exit 2; }
name=$1 zone=$2
shift 2
on_all() { gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=all "--command=$1"; }

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
tar --exclude=__pycache__ -czf "$folder/synseg_jax.tar.gz" README.md LICENSE setup.cfg pyproject.toml synseg_jax configs
gcloud compute tpus tpu-vm scp "$folder/synseg_jax.tar.gz" "$name:synseg_jax.tar.gz" "--zone=$zone" --worker=all
on_all "set -e; mkdir -p synseg_jax; tar -xzf synseg_jax.tar.gz -C synseg_jax; cd synseg_jax
[ -x .venv/bin/python ] || ${PYTHON:-python3} -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[tpu]'"
on_all "cd synseg_jax; exec .venv/bin/python -m synseg_jax.main --distributed --init_timeout_s=1800$(printf ' %q' "$@")"
