# A database on its disk.
set -e
sh "$LAB_LIB/postgres.sh" prepare
mv "$LAB_WORK/database" "$LAB_DATA/database"
ln -s "$LAB_DATA/database" "$LAB_WORK/database"
