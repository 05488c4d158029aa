# Veza Chat Server in an image of its own: a non-root user, a root file system that may be read-only, one volume.
# docs/operations.md, "Containers", says how to build and run it.
#
#   docker build -t veza-chat .                  BuildKit (Docker 23 or later) or podman
#   docker build -t veza-chat --build-arg BUILD_IMAGE=… --build-arg BASE_IMAGE=… .      without Docker Hub
#
# The image has no PostgreSQL: CHAT_SERVER__DATABASE__URL is required.

# A Rust toolchain, a C compiler, make, git and ca-certificates.
ARG BUILD_IMAGE=docker.io/library/rust:1.93-bookworm
# glibc and libgcc, as new as those of BUILD_IMAGE or newer.
ARG BASE_IMAGE=docker.io/library/debian:12.12-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# The caches keep the compiled dependencies between builds, so the program is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin chat-server \
    && install -D -m 0755 target/release/chat-server /out/chat-server \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/ca-certificates.crt

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Veza Chat Server" \
      org.opencontainers.image.description="A self-hosted, thread-per-core WebSocket chat server on PostgreSQL" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# For https: buckets, captchas.
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/chat-server /usr/local/bin/chat-server
# Layers 2 and 3 of the configuration are read from the working directory.
WORKDIR /opt/chat-server
COPY config config
# A new volume takes over the owner of this folder.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/chat-server

ENV CHAT_SERVER__SERVER__ENVIRONMENT=production \
    CHAT_SERVER__SERVER__BIND_ADDR=0.0.0.0:8080 \
    CHAT_SERVER__SERVER__INTERNAL_ADDR=0.0.0.0:9464 \
    CHAT_SERVER__DATA_DIR=/var/lib/chat-server
USER 65532:65532
VOLUME /var/lib/chat-server
# 8080 is for clients. 9464 has the metrics and the dashboard and asks for no token: do not publish it.
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["chat-server", "health"]
ENTRYPOINT ["chat-server"]
CMD ["serve"]
