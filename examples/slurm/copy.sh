#!/bin/sh
# The least of an analysis: reads every input, and writes one file about them.
set -eu
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
sed 's|.*"url": "\([^"]*\)".*|\1|' "$VRSE_INPUTS" > "$work/urls"
while read -r url; do
  xrdcp -s "$url" "$work/file"
  wc -c < "$work/file" >> "$work/sizes.txt"
  rm "$work/file"
done < "$work/urls"
xrdcp -s -f "$work/sizes.txt" "$VRSE_ROOT_URL/$VRSE_OUTBOX/histograms/sizes.txt"
