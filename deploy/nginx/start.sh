#!/bin/sh
# Lays what differs from place to place beside the configuration, then becomes nginx. Further arguments go to nginx:
# `start.sh -t` checks. All that it writes is under NGINX_HOME.
set -eu

: "${NGINX_HOME:=/tmp/nginx}"                     # a writable directory: configuration, process id, temporary files
: "${NGINX_WEB:=127.0.0.1:8000}"                  # the web processes, host:port, separated by spaces
: "${NGINX_UPSTREAM_FILE:=}"                      # instead: a file of `server` lines, which deploy/bluegreen switches
: "${NGINX_RESOLVER:=}"                           # a name server that NGINX_WEB is asked of again and again (nginx 1.27.3)
: "${NGINX_PORT:=8080}"                           # for HTTP; with an address, if it shall not be every one
: "${NGINX_TLS_PORT:=8443}"                       # for HTTPS, where there is a certificate
: "${NGINX_TLS_CERTIFICATE:=}" "${NGINX_TLS_KEY:=}"  # files: with them HTTP only redirects
: "${NGINX_TRUSTED_PROXIES:=}"                    # addresses or networks whose X-Forwarded-* are believed
: "${NGINX_STATUS_ADDRESS:=127.0.0.1}"             # the interface for /healthz and /nginx_status
: "${NGINX_STATUS_PORT:=8081}"                    # and their port
: "${NGINX_LOG:=/dev/stdout}"                      # where a line of JSON tells of each request
: "${NGINX_ROOT:=/var/lib/parley}"                # the directory with static/ in it
: "${PARLEY_MAX_UPLOAD_BYTES:=52428800}"          # as the web processes have it

conf=$NGINX_HOME/conf
mkdir -p "$conf/place"
cp "$(dirname "$0")"/*.conf "$(dirname "$0")/page.html" "$conf/"

lines() { # lines FORMAT WORD...: the format once for each word
    format=$1
    shift
    for word in "$@"; do
        # shellcheck disable=SC2059 # the formats are below
        printf "$format\n" "$word"
    done
}

resolve=
: > "$conf/place/upstream.conf"
if [ -n "$NGINX_RESOLVER" ]; then
    echo "resolver $NGINX_RESOLVER valid=5s ipv6=off;" > "$conf/place/upstream.conf"
    resolve=resolve
fi
# shellcheck disable=SC2086 # lists are separated by spaces
servers=$(lines "server %s $resolve max_fails=2 fail_timeout=5s;" $NGINX_WEB)
if [ -n "$NGINX_UPSTREAM_FILE" ]; then
    # What was switched last stays so when nginx is started again.
    [ -s "$NGINX_UPSTREAM_FILE" ] || echo "$servers" > "$NGINX_UPSTREAM_FILE"
    servers="include $NGINX_UPSTREAM_FILE;"
fi
echo "$servers" >> "$conf/place/upstream.conf"
# shellcheck disable=SC2086
lines 'set_real_ip_from %s;' $NGINX_TRUSTED_PROXIES > "$conf/place/proxies.conf"
# shellcheck disable=SC2086
lines '%s 1;' $NGINX_TRUSTED_PROXIES > "$conf/place/proxies.geo"
# A form weighs a little more than its file (apps/knowledge/parsers.py).
echo "client_max_body_size $((PARLEY_MAX_UPLOAD_BYTES + 65536));" > "$conf/place/upload.conf"
echo "access_log $NGINX_LOG parley;" > "$conf/place/log.conf"
echo "root $NGINX_ROOT;" > "$conf/place/static.conf"
echo "listen $NGINX_STATUS_ADDRESS:$NGINX_STATUS_PORT;" > "$conf/place/status.conf"

if [ -n "$NGINX_TLS_CERTIFICATE" ]; then
    cat > "$conf/place/servers.conf" <<END
server {
    listen $NGINX_PORT default_server;
    return 308 https://\$host\$request_uri;
}
server {
    listen $NGINX_TLS_PORT ssl http2 default_server;
    ssl_certificate $NGINX_TLS_CERTIFICATE;
    ssl_certificate_key $NGINX_TLS_KEY;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    ssl_session_timeout 1d;
    ssl_session_tickets off;
    include server.conf;
}
END
else
    cat > "$conf/place/servers.conf" <<END
server {
    listen $NGINX_PORT default_server;
    include server.conf;
}
END
fi

# Whoever should take nginx's output and has stopped would stop nginx too, which waits for it with all that it serves. So
# this takes it instead, and where there is no room it throws away a second's worth. A line that was torn is ended first.
pass_on() {
    until dd bs=64k oflag=nonblock status=none; do
        timeout 1 cat > /dev/null || echo || :
    done
}
if [ $# -eq 0 ] && [ ! -t 1 ]; then
    rm -f "$NGINX_HOME/output"
    mkfifo "$NGINX_HOME/output"
    pass_on < "$NGINX_HOME/output" 2> /dev/null &
    exec > "$NGINX_HOME/output" 2>&1
fi

exec nginx -p "$NGINX_HOME" -c "$conf/nginx.conf" -g "daemon off;" "$@"
