# A database on its disk.
set -e
sh "$LAB_LIB/postgres.sh" prepare
mv "$LAB_WORK/database" "$LAB_DATA/database"
ln -s "$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/postgres" "$LAB_WORK/postgres"
