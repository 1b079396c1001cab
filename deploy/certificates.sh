#!/bin/sh
# Makes an authority, and a certificate of it for each host name that is given, once: folder NAME gets
# tls.crt and tls.key for OWNER, the folder `authority` what the others have to believe. Servers and
# clients can show them. The key of the authority is not kept. To make all anew, empty the folders.
#
#     cd /tls && OWNER=999:999 sh certificates.sh postgres redis
set -eu
umask 077

days=3650
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

# It is written last, so that a run that broke off is made anew.
[ ! -s authority/ca.crt ] || exit 0

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

# shellcheck disable=SC2086 -- several arguments
openssl req -x509 $key -days "$days" -subj "/CN=Kith" \
  -addext "keyUsage=critical,keyCertSign" -keyout "$scratch/ca.key" -out "$scratch/ca.crt"
for name in "$@"; do
  rm -f "$name/tls.key" "$name/tls.crt"
  # shellcheck disable=SC2086 -- several arguments
  openssl req $key -subj "/CN=$name" -keyout "$name/tls.key" -out "$scratch/$name.csr"
  printf 'subjectAltName=DNS:%s,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n' "$name" > "$scratch/$name.cnf"
  openssl x509 -req -in "$scratch/$name.csr" -days "$days" -CA "$scratch/ca.crt" \
    -CAkey "$scratch/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -extfile "$scratch/$name.cnf" -out "$name/tls.crt"
  [ -z "${OWNER:-}" ] || chown "$OWNER" "$name/tls.key" "$name/tls.crt"
done
chmod 644 "$scratch/ca.crt"
cp "$scratch/ca.crt" authority/ca.crt.new
chmod 644 authority/ca.crt.new
mv authority/ca.crt.new authority/ca.crt
