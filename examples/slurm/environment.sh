# To be read by `. FOLDER/environment.sh`, with `folder` set to what fetch.sh or `vrse lease take --folder` has made: the
# variables that the latter prints, for clients of the buffer, and `lease NAME TIME` and `release NAME`.
export VRSE_SECRET="$folder/secret" VRSE_CONFIG="$folder/config" VRSE_ADDRESS=public VRSE_CA_BUNDLE="$folder/config/ca.crt"
export BEARER_TOKEN_FILE="$VRSE_SECRET/token" X509_CERT_DIR="$VRSE_CONFIG" VRSE_INPUTS="$folder/inputs.jsonl"
VRSE_ROOT_URL=$(cat "$VRSE_CONFIG/VRSE_PUBLIC_ROOT_URL")
VRSE_DAVS_URL=$(cat "$VRSE_CONFIG/VRSE_PUBLIC_DAVS_URL")
VRSE_OUTBOX=$(cat "$VRSE_CONFIG/VRSE_OUTBOX")
VRSE_LEASE=$(cat "$VRSE_CONFIG/VRSE_LEASE")
export VRSE_ROOT_URL VRSE_DAVS_URL VRSE_OUTBOX VRSE_LEASE
# Not every session has these. That of another one, from the shell where the job was submitted, must not stay.
for key in VRSE_PUBLIC_ROOT_URL VRSE_PUBLIC_DAVS_URL VRSE_PUBLISH VRSE_STATUS VRSE_RSE; do
  unset "$key"
  if [ -e "$VRSE_CONFIG/$key" ]; then
    export "$key=$(cat "$VRSE_CONFIG/$key")"
  fi
done

# The token stands in a file, since everybody on a machine may read what programs are called with.
buffer() { curl -sSf --retry 3 --max-time 60 --cacert "$VRSE_CA_BUNDLE" -H "@$VRSE_SECRET/header" "$@"; }
lease() { buffer -o /dev/null -X PUT --data-binary "$2" "$VRSE_DAVS_URL$VRSE_LEASE/$1"; }
release() { buffer -o /dev/null -X DELETE "$VRSE_DAVS_URL$VRSE_LEASE/$1"; }

# The list of inputs names the address inside the cluster. A very long one is a file of the buffer. It is made anew where
# fetch.sh has been here again: it has the time of what it was made of, whatever the clocks of other machines say.
source=$VRSE_CONFIG/VRSE_INPUTS_URL
if [ -e "$source" ] && { [ ! -e "$VRSE_INPUTS" ] || [ "$source" -nt "$VRSE_INPUTS" ]; }; then
  list=$(mktemp "$VRSE_INPUTS.XXXXXX")
  if [ -e "$VRSE_CONFIG/inputs.jsonl" ]; then
    cat "$VRSE_CONFIG/inputs.jsonl" > "$list"
  else
    path=$(cat "$source")
    path=${path#root://*/}
    if ! buffer -o "$list" "$VRSE_DAVS_URL/${path#/}"; then
      rm "$list"
      return 1
    fi
  fi
  sed "s|$(cat "$VRSE_CONFIG/VRSE_ROOT_URL")|$VRSE_ROOT_URL|" "$list" > "$list.public"
  touch -r "$source" "$list.public"
  mv "$list.public" "$VRSE_INPUTS"
  rm "$list"
fi
