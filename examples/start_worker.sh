#!/bin/bash
# SPDX-License-Identifier: MIT
# Starts a worker on an instance: makes its certificate, hands the model's log over, then becomes
# `luaworker serve`. For an instance's onstart command, after the model server was started.
#
#   BACKEND=hello_world MODEL_LOG=/var/log/model.log examples/start_worker.sh [serve options]
#
# Environment, beside that of `luaworker serve --help`:
#   BACKEND          serve workers/$BACKEND.lua; or give WORKER_SCRIPT
#   WORKER_SCRIPT    the worker script itself
#   LUAWORKER        the program (build/luaworker of this checkout, else the one on the PATH)
#   USE_SSL          true (default): a certificate is made and asked for; false: plain HTTP
#   SSL_CERT SSL_KEY where the pair goes (/etc/instance.crt, /etc/instance.key)
#   SIGN_URL         who signs certificates (the cloud's own address)
#   SIGN_RETRIES     how often they are asked again (5)
#   REPORT_ADDR      the autoscaler (https://run.vast.ai)
#   MODEL_LOG        the model's log: what it holds is moved to $MODEL_LOG.old
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
export REPORT_ADDR=${REPORT_ADDR-https://run.vast.ai}
export WORKER_PORT=${WORKER_PORT:-3000}
export USE_SSL=${USE_SSL:-true}
export SSL_CERT=${SSL_CERT:-/etc/instance.crt}
export SSL_KEY=${SSL_KEY:-/etc/instance.key}

say() { echo "start_worker: $*" >&2; }

find_program() {
  if [ -n "${LUAWORKER:-}" ]; then
    echo "$LUAWORKER"
  elif [ -x "$root/build/luaworker" ]; then
    echo "$root/build/luaworker"
  else
    command -v luaworker || {
      say "no luaworker: run 'make build' in $root, or set LUAWORKER"
      return 1
    }
  fi
}

find_script() {
  if [ -n "${WORKER_SCRIPT:-}" ]; then
    echo "$WORKER_SCRIPT"
  elif [ -n "${BACKEND:-}" ]; then
    echo "$root/workers/$BACKEND.lua"
  else
    say "which worker? Set BACKEND to one of workers/*.lua, or WORKER_SCRIPT to a file"
    return 1
  fi
}

# The pair fits together and the certificate is good for another day.
is_good_pair() { # CERTIFICATE KEY
  [ -s "$1" ] && [ -s "$2" ] || return 1
  openssl x509 -in "$1" -noout -checkend 86400 > /dev/null 2>&1 || return 1
  local of_certificate of_key
  of_certificate=$(openssl x509 -in "$1" -noout -pubkey 2> /dev/null) || return 1
  of_key=$(openssl pkey -in "$2" -pubout 2> /dev/null) || return 1
  [ "$of_certificate" = "$of_key" ]
}

# A new key, signed. What is there stays as it is until the new pair is known to be good.
make_certificate() {
  local work sign_url status=1
  sign_url=${SIGN_URL:-https://console.vast.ai/api/v0/sign_cert/?instance_id=${CONTAINER_ID:-0}}
  work=$(mktemp -d) || { say "no room for a new key: ${TMPDIR:-/tmp} can't be written to"; return 1; }
  (
    umask 077
    openssl req -new -newkey rsa:2048 -nodes -sha256 -subj "/C=US/ST=CA/CN=pyworker.vast.ai" \
      -addext "subjectAltName=IP:0.0.0.0" -keyout "$work/key" -out "$work/csr" 2> "$work/errors"
  ) || { say "openssl made no key: $(tail -n 1 "$work/errors")"; rm -rf "$work"; return 1; }
  if ! curl --fail --silent --show-error --max-time 30 \
    --retry "${SIGN_RETRIES:-5}" --retry-connrefused \
    --header "Content-Type: application/octet-stream" --data-binary "@$work/csr" \
    --output "$work/crt" "$sign_url" 2> "$work/errors"; then
    say "no certificate from $sign_url: $(tail -n 1 "$work/errors")"
  elif ! is_good_pair "$work/crt" "$work/key"; then
    say "what $sign_url answered is no certificate for our key: $(head -c 100 "$work/crt")"
  else
    install -m 600 "$work/key" "$SSL_KEY" && install -m 644 "$work/crt" "$SSL_CERT" && status=0
  fi
  rm -rf "$work"
  return $status
}

# A rebooted instance must not take the lines of its last life for news.
hand_over_log() {
  [ -n "${MODEL_LOG:-}" ] && [ -s "$MODEL_LOG" ] || return 0
  cat "$MODEL_LOG" >> "$MODEL_LOG.old"
  : > "$MODEL_LOG"
}

program=$(find_program)
script=$(find_script)
if [ "$USE_SSL" = true ] && ! make_certificate; then
  if is_good_pair "$SSL_CERT" "$SSL_KEY"; then
    say "going on with the certificate that is there"
  else
    say "going on without one: the worker tells the autoscaler that it could not start"
  fi
fi
hand_over_log
exec "$program" serve "$script" "$@"
