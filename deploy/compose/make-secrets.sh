#!/bin/sh
# Prints new secrets for compose.yaml, one NAME=value a line. Keep the file: with other secrets, the nodes cannot log in
# to the database, and nobody can sign in with an authenticator app.
#
#   (umask 077; deploy/compose/make-secrets.sh > deploy/compose/secrets.env)
set -eu

# Letters and digits only, because passwords are parts of URLs.
password() { openssl rand -hex 24; }

echo "POSTGRES_PASSWORD=$(password)"
echo "REDIS_PASSWORD=$(password)"
echo "GRAFANA_PASSWORD=$(password)"
echo "JWT_SECRET=$(openssl rand -base64 48)"
echo "ENCRYPTION_KEYS=$(date +%Y-%m):$(openssl rand -base64 32)"
cat <<'END'
# Origins of web pages that may open a WebSocket, separated by commas: https://chat.example.com
#ALLOWED_ORIGINS=
# Users who may administer, separated by commas.
#ADMIN_USER_IDS=
# Address and port where clients connect.
#PUBLISH=127.0.0.1:8080
# Cores of each node. Set them if the machine has more than two: 0-3 and 4-7.
#CHAT_1_CORES=0
#CHAT_2_CORES=1
END
