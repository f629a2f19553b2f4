# Starts the site's Apache with the token issuer's key, which stands in its configuration.
set -eu
mkdir -p /data/store
JWK=$(sed 's/^{"keys": \[//; s/\]}$//' /pki/jwks.json)
export JWK
exec apache2 -f /etc/site/site.conf -D FOREGROUND
