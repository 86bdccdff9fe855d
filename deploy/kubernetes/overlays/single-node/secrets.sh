#!/bin/sh
# Prints Kubernetes Secrets with what deploy/dotenv.sh wrote: secrets.sh .env | kubectl apply -f -
set -eu

if [ $# -ne 1 ]; then
    echo "Usage: $0 FILE (the .env that deploy/dotenv.sh wrote)" >&2
    exit 2
fi

value() { # value NAME: what the file says
    sed -n "s/^$1=//p" "$file" | grep . || { echo "$file does not set $1." >&2; exit 1; }
}

secret() { # secret NAME LINE...: each line is NAME: VALUE; what follows the colon is a string, whatever it looks like
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: parley}\nstringData:\n' "$1"
    shift
    printf '  %s\n' "$@"
}

file=$1
redis=$(value REDIS_PASSWORD)
app=$(value POSTGRES_APP_PASSWORD)
operator=$(value POSTGRES_OPERATOR_PASSWORD)
owner=$(value POSTGRES_OWNER_PASSWORD)
key=$(value SECRET_KEY)
pepper=$(value PARLEY_KEY_PEPPER)
encryption=$(value PARLEY_ENCRYPTION_KEYS)
superuser=$(value POSTGRES_PASSWORD)

secret parley \
    "SECRET_KEY: '$key'" \
    "PARLEY_KEY_PEPPER: '$pepper'" \
    "PARLEY_ENCRYPTION_KEYS: '$encryption'" \
    "DATABASE_URL: 'postgres://parley_app:$app@postgres:5432/parley'" \
    "OPERATOR_DATABASE_URL: 'postgres://parley_operator:$operator@postgres:5432/parley'" \
    "REDIS_URL: 'redis://:$redis@redis:6379/0'" \
    "CACHE_URL: 'redis://:$redis@cache:6379/0'"
secret parley-owner "OWNER_DATABASE_URL: 'postgres://parley_owner:$owner@postgres:5432/parley'"
secret parley-postgres \
    "POSTGRES_PASSWORD: '$superuser'" \
    "POSTGRES_OWNER_PASSWORD: '$owner'" \
    "POSTGRES_APP_PASSWORD: '$app'" \
    "POSTGRES_OPERATOR_PASSWORD: '$operator'"
secret parley-redis "REDIS_PASSWORD: '$redis'"
