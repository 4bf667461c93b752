. "$LAB_LIB/lab.sh"
for file in "$LAB_NOTES"/limit.*; do
    prlimit --pid="${file##*.}" "--nofile=$(tr -d ' ' <"$file"):" || true
done
