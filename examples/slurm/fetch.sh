#!/bin/sh
# Where kubectl is: waits for the session, and writes what its jobs need into a folder that nobody else may read.
#   sh fetch.sh NAMESPACE NAME FOLDER
# Then bring FOLDER to where the jobs run, for instance by scp -pr.
set -eu
namespace=$1 name=$2 folder=$3
umask 077
mkdir -p "$folder/secret" "$folder/config"
kubectl -n "$namespace" wait --for=condition=Usable --timeout=1h "volatilerse/$name" >&2
get() { kubectl -n "$namespace" get "$1" "$name-vrse" -o "go-template=$2"; }
# Jobs that read a file meanwhile have the old one or the new.
put() { mv "$folder/new" "$folder/$1"; }
get secret '{{index .data "token" | base64decode}}' > "$folder/new"
put secret/token
printf 'Authorization: Bearer %s\n' "$(cat "$folder/secret/token")" > "$folder/new"
put secret/header
keys=$(get configmap '{{range $key, $value := .data}}{{$key}} {{end}}')
for key in $keys; do
  get configmap "{{index .data \"$key\"}}" > "$folder/new"
  put "config/$key"
done
# What an earlier session of this name had, or an earlier state of this one.
for file in "$folder"/config/VRSE_* "$folder"/config/inputs.jsonl "$folder"/config/*.[0-9]; do
  case " $keys " in *" ${file##*/} "*) ;; *) rm -f "$file" ;; esac
done
if [ ! -e "$folder/config/VRSE_INPUTS_URL" ]; then
  rm -f "$folder/inputs.jsonl"
fi
if [ ! -e "$folder/config/VRSE_LEASE" ]; then
  echo "$name knows no leases: it was begun by an older operator; create another VolatileRSE" >&2
  exit 1
fi
cp "$(dirname "$0")/environment.sh" "$folder/"
