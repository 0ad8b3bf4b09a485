#!/usr/bin/env bash
# synseg_jax.main in a container, with its flags.  Stopped by SIGTERM it saves and its exit code is 0; here that becomes
# 143, so that a cluster which took its node away starts it again instead of calling it done.
set -euo pipefail
cd "$(dirname "$0")/.."
"${VENV:+$VENV/bin/}python" -m synseg_jax.main "$@" &
pid=$! code=0 signalled='' stopped=''
trap 'signalled=1 stopped=143; kill -TERM "$pid" || true' TERM
wait "$pid" || code=$?
while [ "$signalled" ]; do # which is what ended the wait
    signalled='' code=0
    wait "$pid" || code=$?
done
exit "${stopped:-$code}"
