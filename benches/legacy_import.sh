#!/usr/bin/env bash
# Times `chat-server import veza-legacy` of a plain dump with many messages, into an empty database:
#
#   benches/legacy_import.sh              1,000,000 messages of 1,000 users in 200 rooms and 1,000 direct conversations
#   benches/legacy_import.sh 100000       another number of messages
#
# Build the server first: cargo build --release. What it writes goes into a temporary folder, which is removed.
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-1000000}
program=$PWD/target/release/chat-server
[ -x "$program" ] || { printf 'no %s; type: cargo build --release\n' "$program" >&2 && exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 - "$messages" >"$folder/old.sql" <<'PYTHON'
import random, sys

random.seed(1)
count, users, rooms = int(sys.argv[1]), 1000, 200
words = "the build is green again and we meet at noon to look at what broke last night in the harbour office".split()


def table(name, columns, rows):
    print(f"COPY public.{name} ({', '.join(columns)}) FROM stdin;")
    sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
    print("\\.\n")


def time(second):
    day, second = divmod(second, 86400)
    year, day = divmod(day, 336)
    month, day = divmod(day, 28)
    return f"{2020 + year}-{month + 1:02}-{day + 1:02} {second // 3600:02}:{second % 3600 // 60:02}:{second % 60:02}"


def message(n):
    text = " ".join(random.choices(words, k=random.randint(4, 28)))
    author = random.randint(1, users)
    direct = random.random() < 0.2
    to = str(author % users + 1) if direct else r"\N"
    room = r"\N" if direct else f"room{min(int(random.expovariate(0.02)), rooms - 1)}"
    return [str(n), str(author), to, room, text, time(n * 60)]


print("--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n")
table("users", ["id", "username", "email", "password", "created_at"],
      ([str(n), f"user{n}", f"user{n}@example.org", "$2b$04$" + "a" * 53, time(0)] for n in range(1, users + 1)))
table("rooms", ["id", "name", "is_private", "owner_id", "created_at"],
      ([str(n + 1), f"room{n}", "f", str(n + 1), time(0)] for n in range(rooms)))
table("messages", ["id", "from_user", "to_user", "room", "content", "timestamp"],
      (message(n) for n in range(1, count + 1)))
print("--\n-- PostgreSQL database dump complete\n--")
PYTHON
ls -l "$folder/old.sql" >&2

export CHAT_SERVER__DATA_DIR=$folder/data
time "$program" import veza-legacy --yes --source bench "$folder/old.sql"
