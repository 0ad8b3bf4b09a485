#!/usr/bin/env bash
# Distributed training with N processes on this machine, one GPU each, or with fewer than N GPUs an equal share of the
# CPU cores:  bash launch/local.sh 2 --config=configs/quickstart.py
# Arguments after N go to synseg_jax.main.  Ctrl-C and SIGTERM make all processes save.  If one fails, so do the others.
set -euo pipefail
cd "$(dirname "$0")/.."
n=${1:-}
[[ $n =~ ^[1-9][0-9]*$ ]] || { echo 'usage: bash launch/local.sh N --config=configs/quickstart.py' >&2; exit 2; }
shift
venv=${VENV:-.venv}
grace=${GRACE_S:-10} # after a failure: seconds until SIGTERM to the others, and again until SIGKILL
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable .
fi

gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | grep -x '[0-9]*' | tr '\n' ',') || gpus=
IFS=, read -r -a gpus <<<"${CUDA_VISIBLE_DEVICES-$gpus}"
cores=()
if command -v taskset >/dev/null; then # XLA starts one thread per allowed core and ignores OMP_NUM_THREADS
    ranges=$(taskset --cpu-list --pid $$)
    for range in $(tr ',' ' ' <<<"${ranges##*: }"); do
        mapfile -t -O ${#cores[@]} cores < <(seq "${range%-*}" "${range#*-}")
    done
fi
if ((${#gpus[@]} && ${#gpus[@]} < n)); then
    echo "$n processes, ${#gpus[@]} GPU(s): training on the CPU" >&2
fi

assign() { # command prefix that assigns process $1 its GPU or cores
    local first=$(($1 * ${#cores[@]} / n)) end=$((($1 + 1) * ${#cores[@]} / n))
    if ((${#gpus[@]} >= n)); then
        echo "env CUDA_VISIBLE_DEVICES=${gpus[$1]}"
    elif ((${#cores[@]} >= n)); then
        echo "env JAX_PLATFORMS=cpu taskset --cpu-list $(IFS=,; echo "${cores[*]:first:end-first}")"
    else
        echo 'env JAX_PLATFORMS=cpu'
    fi
}

port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
pids=''
signal_all() { kill "-$1" $pids 2>/dev/null || true; }
trap 'signal_all INT' INT
trap 'signal_all TERM' TERM HUP
set -m # own process groups: else Ctrl-C arrives twice, and the second one ends without saving
for ((i = 0; i < n; i++)); do
    $(assign "$i") "$venv/bin/python" -m synseg_jax.main "$@" \
        "--coordinator=127.0.0.1:$port" "--processes=$n" "--process=$i" &
    pids+=" $!"
done

code=0
while [ "$pids" ]; do
    sleep 1 &
    wait $! || true # interrupted by signals
    running=''
    for pid in $pids; do
        status=0
        kill -0 "$pid" 2>/dev/null && running+=" $pid" || wait "$pid" || status=$?
        if ((status && !code)); then
            code=$status failed=$SECONDS
        fi
    done
    pids=$running
    ((code && SECONDS - failed > grace)) && signal_all TERM
    ((code && SECONDS - failed > 2 * grace)) && signal_all KILL
done
exit "$code"
