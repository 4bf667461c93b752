. "$LAB_LIB/lab.sh"
switch_back
end KILL
