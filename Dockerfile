# The worker as a container. Build: docker build -t call-history .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p call-history

FROM debian:bookworm-slim
# The system's root certificates are those that are trusted; mount your own CA there, or set
# SSL_CERT_FILE.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /app call-history \
    && install -d -o call-history -g call-history /app /data
COPY --from=build /src/target/release/call-history /usr/local/bin/call-history
COPY --from=build /src/config/default.toml /app/config/default.toml
COPY --from=build /src/config/profiles /app/config/profiles
USER call-history
WORKDIR /app
ENV CALL_HISTORY_DATA_DIR=/data
# Records that are not delivered yet live here: keep it.
VOLUME /data
EXPOSE 8081
# SIGTERM drains: give running calls the time of CALL_HISTORY_DRAIN_TIMEOUT and a minute more (docker stop -t 660).
STOPSIGNAL SIGTERM
ENTRYPOINT ["call-history"]
CMD ["start"]
