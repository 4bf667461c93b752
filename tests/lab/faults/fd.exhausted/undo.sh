. "$LAB_LIB/lab.sh"
end_background
for file in "$LAB_NOTES"/limit.*; do
    limit_process "${file##*.}" "--nofile=$(tr -d ' ' <"$file"):" || true
done
