#!/bin/sh
# Prints a .env for docker-compose.yml with new secrets: deploy/dotenv.sh chat.example.com > .env
set -eu

if [ $# -ne 1 ]; then
    echo "Usage: $0 HOST (the name that people reach Parley by)" >&2
    exit 2
fi

word() { # letters and digits only: it stands in addresses
    head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

cat <<END
# Written by deploy/dotenv.sh; .env.example explains these and lists what else can be set.
# Keep a copy in a safe place: without it a restored backup has no valid API key.
ALLOWED_HOSTS=$1
SECRET_KEY=$(word)
PARLEY_KEY_PEPPER=$(word)
PARLEY_ENCRYPTION_KEYS=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')
POSTGRES_PASSWORD=$(word)
POSTGRES_OWNER_PASSWORD=$(word)
POSTGRES_APP_PASSWORD=$(word)
POSTGRES_OPERATOR_PASSWORD=$(word)
REDIS_PASSWORD=$(word)
END
