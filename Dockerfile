# The worker as a container. Build: docker build -t call-history .
FROM rust:1.95-slim-bookworm AS build
# otlp: docs/traces.md.
ARG FEATURES=
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Crates and compiled dependencies stay in caches of the builder, so that a change of the source builds only this
# repository's crates anew.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p call-history --features "$FEATURES" && cp target/release/call-history /call-history

FROM debian:bookworm-slim
# The system's root certificates are those that are trusted; mount your own CA there, or set
# SSL_CERT_FILE.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin call-history \
    && install -d -o call-history -g call-history /app /data
COPY --from=build /call-history /usr/local/bin/call-history
COPY --from=build /src/config/default.toml /app/config/default.toml
COPY --from=build /src/config/profiles /app/config/profiles
COPY --from=build /src/LICENSE /src/THIRD-PARTY-LICENSES.txt /usr/share/doc/call-history/
USER 10001
WORKDIR /app
ENV CALL_HISTORY_DATA_DIR=/data CALL_HISTORY_RECEIVE_DATA_DIR=/data/receiver
# So that memory is given back after calls: docs/running.md.
ENV GLIBC_TUNABLES=glibc.malloc.tcache_count=0
# Records that are not delivered yet live here: keep it. The rest of the root may be read-only.
VOLUME /data
EXPOSE 8081
# Only whether the process lives: a restart in the middle of calls would repair neither LiveKit nor the endpoint.
# `probe --ready` says whether it is connected and takes calls.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["call-history", "probe"]
# SIGTERM drains: give running calls the time of CALL_HISTORY_DRAIN_TIMEOUT and a minute more (docker stop -t 660).
STOPSIGNAL SIGTERM
ENTRYPOINT ["call-history"]
CMD ["start"]
