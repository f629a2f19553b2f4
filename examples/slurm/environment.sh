# To be read by `. FOLDER/environment.sh`, with `folder` set to what fetch.sh has made: variables for clients of the
# buffer, and `lease NAME TIME` and `release NAME`.
export VRSE_SECRET="$folder/secret" VRSE_CONFIG="$folder/config" VRSE_ADDRESS=public
export BEARER_TOKEN_FILE="$VRSE_SECRET/token" X509_CERT_DIR="$VRSE_CONFIG" VRSE_INPUTS="$folder/inputs.jsonl"
VRSE_ROOT_URL=$(cat "$VRSE_CONFIG/VRSE_PUBLIC_ROOT_URL")
VRSE_DAVS_URL=$(cat "$VRSE_CONFIG/VRSE_PUBLIC_DAVS_URL")
VRSE_OUTBOX=$(cat "$VRSE_CONFIG/VRSE_OUTBOX")
VRSE_LEASE=$(cat "$VRSE_CONFIG/VRSE_LEASE")
export VRSE_ROOT_URL VRSE_DAVS_URL VRSE_OUTBOX VRSE_LEASE

# The token stands in a file, since everybody on a machine may read what programs are called with.
buffer() { curl -sSf --retry 3 --max-time 60 --cacert "$VRSE_CONFIG/ca.crt" -H "@$VRSE_SECRET/header" "$@"; }
lease() { buffer -o /dev/null -X PUT --data-binary "$2" "$VRSE_DAVS_URL$VRSE_LEASE/$1"; }
release() { buffer -o /dev/null -X DELETE "$VRSE_DAVS_URL$VRSE_LEASE/$1"; }

# The list of inputs names the address inside the cluster. A very long one is a file of the buffer.
if [ ! -e "$VRSE_INPUTS" ] && [ -e "$VRSE_CONFIG/VRSE_INPUTS_URL" ]; then
  if [ -e "$VRSE_CONFIG/inputs.jsonl" ]; then
    cat "$VRSE_CONFIG/inputs.jsonl"
  else
    path=$(cat "$VRSE_CONFIG/VRSE_INPUTS_URL")
    path=${path#root://*/}
    buffer "$VRSE_DAVS_URL/${path#/}"
  fi | sed "s|$(cat "$VRSE_CONFIG/VRSE_ROOT_URL")|$VRSE_ROOT_URL|" > "$VRSE_INPUTS.$$"
  mv "$VRSE_INPUTS.$$" "$VRSE_INPUTS"
fi
