#!/usr/bin/env bash
# Runs synseg_jax.main in a container.  After SIGTERM it saves and exits with 0, which becomes 143 here, so that a
# cluster restarts an evicted container instead of counting it as completed.
set -euo pipefail
cd "$(dirname "$0")/.."
"${VENV:+$VENV/bin/}python" -m synseg_jax.main "$@" &
pid=$! code=0 signalled='' stopped=''
trap 'signalled=1 stopped=143; kill -TERM "$pid" || true' TERM
wait "$pid" || code=$?
while [ "$signalled" ]; do # a signal ended the wait: wait again
    signalled='' code=0
    wait "$pid" || code=$?
done
exit "${stopped:-$code}"
