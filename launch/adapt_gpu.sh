#!/usr/bin/env bash
# Trains configs/adapt.py on one GPU, in bfloat16 at width 64, from records that prepare wrote at 256x256:
#     bash launch/adapt_gpu.sh records/mr_ct records/ct_mr
# Results are in runs/adapt_gpu/NAME.  STEPS and MORE are the steps on the source, and in each round on both domains.
set -euo pipefail
cd "$(dirname "$0")/.."
(($#)) || { echo 'usage: bash launch/adapt_gpu.sh RECORDS ...' >&2; exit 2; }
python=${PYTHON:-python3}
system=config.systems.adapt.stages
for records in "$@"; do
    flags=()
    for stage in generalise:${STEPS:-6000} adapt1:${MORE:-1500} adapt2:${MORE:-1500} adapt3:${MORE:-1500}; do
        flags+=("--$system.${stage%:*}.train.steps=${stage#*:}" "--$system.${stage%:*}.train.decay_steps=${stage#*:}")
    done
    "$python" -m synseg_jax.main "--config=configs/adapt.py:$records" "--workdir=runs/adapt_gpu/$(basename "$records")" \
        --config.run="('adapt',)" --config.segmentor.width=64 --config.dtype=bfloat16 \
        --config.train.batch="${BATCH:-32}" --config.train.resident_gib=8 "${flags[@]}"
done
