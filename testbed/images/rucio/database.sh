#!/bin/sh
# Makes the database cluster in its volume once, then becomes the server.
set -eu
data=/var/lib/catalogue/data
if [ ! -s "$data/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s' "$PASSWORD" >"$password"
    rm -rf "$data.new"
    /opt/postgresql/initdb --pgdata "$data.new" --username rucio --pwfile "$password" --auth scram-sha-256 \
        --encoding UTF8 --locale C.UTF-8
    rm "$password"
    echo 'host all all all scram-sha-256' >>"$data.new/pg_hba.conf"
    mv "$data.new" "$data"
fi
# A testbed may lose its last transactions with its machine, and is quicker for it.
exec /opt/postgresql/postgres -D "$data" -c listen_addresses='*' -c fsync=off -c max_connections=200
