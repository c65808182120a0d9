#!/bin/bash
# The whole loop once: model stand-in, local autoscaler and the hello_world worker are started, signed
# requests (JSON and streaming) go through, and what happened is printed. Exits 0 when all went well.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${LUAWORKER_BIN:-build/luaworker}
script=workers/hello_world.lua

free_port() {
  python3 - <<'P' 2>/dev/null || echo $((20000 + RANDOM % 20000))
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])
P
}
port=$(free_port) model_port=$(free_port) autoscaler_port=$(free_port)
log=$(mktemp)
"$bin" dev "$script" --port "$port" --model-port "$model_port" --autoscaler-port "$autoscaler_port" \
  > "$log" 2>&1 &
dev=$!
finish() {
  kill "$dev" 2>/dev/null || true
  wait "$dev" 2>/dev/null || true
  rm -f "$log"
}
trap finish EXIT

for _ in $(seq 150); do
  grep -q "All is running" "$log" && break
  kill -0 "$dev" 2>/dev/null || { cat "$log"; exit 1; }
  sleep 0.1
done
autoscaler="http://127.0.0.1:$autoscaler_port"

echo "== one JSON answer: luaworker call $script /generate"
"$bin" call "$script" /generate --autoscaler "$autoscaler" \
  --json '{"prompt": "What does a worker do?", "max_response_tokens": 12}'
echo
echo "== a stream of tokens: luaworker call $script /generate_stream"
"$bin" call "$script" /generate_stream --autoscaler "$autoscaler" \
  --json '{"prompt": "Count with me", "max_response_tokens": 5}'
echo
echo "== a payload that the script refuses"
if "$bin" call "$script" /generate --autoscaler "$autoscaler" --json '{"prompt": 5}'; then
  echo "it should have been refused" >&2
  exit 1
fi
echo
echo "== reload on SIGHUP"
kill -HUP "$dev"
for _ in $(seq 50); do
  grep -q "reloaded" "$log" && break
  sleep 0.1
done
grep "reloaded" "$log"

kill "$dev"
wait "$dev"
trap - EXIT
echo
echo "== what the worker and the autoscaler saw"
cat "$log"
rm -f "$log"
