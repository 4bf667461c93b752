# PostgreSQL: `prepare` makes a database with two tables, or takes the one that it made before;
# `start` becomes the server. In $LAB_WORK/database; the port is the one to listen at, or $LAB_PORT.
set -e
programs=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
database=$(pwd)/database
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
case $1 in
prepare)
    kept=$LAB_CACHE/database
    if [ ! -e "$kept.tar" ]; then
        install -d -o postgres -m 700 "$database"
        as_postgres "$programs/initdb" -D "$database" -U postgres -A trust -N >/dev/null
        as_postgres "$programs/postgres" --single -D "$database" postgres >/dev/null <<'END'
CREATE TABLE item (id int PRIMARY KEY, n int, text text)
INSERT INTO item SELECT i, i % 7, repeat('y', 100) FROM generate_series(1, 2000) i
CREATE TABLE entry (id serial, item int, note text)
END
        echo 'host all all all trust' >>"$database/pg_hba.conf"
        tar -C "$(dirname "$database")" -cf "$kept.new" database
        mv "$kept.new" "$kept.tar"
        rm -r "$database"
    fi
    tar -C "$LAB_WORK" -xpf "$kept.tar"
    ;;
start)
    exec "$programs/postgres" -D "$database" -p "${2:-15432}" \
        -c listen_addresses='*' -c unix_socket_directories= -c shared_buffers=16MB \
        -c max_wal_size=64MB -c max_connections=60 -c fsync=on -c autovacuum_naptime=20s
    ;;
esac
