#!/bin/sh
# Makes the certificates of this folder anew: an authority, and a server (127.0.0.1) and a client
# that it signs. They serve tests on loopback alone; the authority's key is thrown away.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index"
cat > "$work/openssl.cnf" <<END
[ca]
default_ca = own
[own]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
default_startdate = 20200101000000Z
default_enddate = 21200101000000Z
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
[server]
subjectAltName = IP:127.0.0.1, DNS:localhost
extendedKeyUsage = serverAuth
[client]
subjectAltName = DNS:client
extendedKeyUsage = clientAuth
END
request() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$2"
    openssl req -new -key "$2" -subj "/CN=stethos test $1" -out "$work/$1.csr"
}
sign() {
    openssl ca -batch -notext -config "$work/openssl.cnf" -extensions "$1" -in "$work/$1.csr" \
        -out "$1.pem" -keyfile "$work/authority.key" "$2" "$3"
}
request authority "$work/authority.key"
sign authority -selfsign -verbose
for name in server client; do
    request "$name" "$name.key"
    sign "$name" -cert authority.pem
done
