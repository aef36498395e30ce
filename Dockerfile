# Two images from one tree: `--target gateway` (the default) and `--target worker`.
#
#   docker build -t lingma-gateway .
#   docker build -t lingma-gateway-worker --target worker .
#
# BASE_IMAGE has Python 3.11 with venv and pip on a Debian; both stages use it, so that the interpreter of the
# virtual environment is at the same place in both. A registry that needs settings of pip is reached with
# `--secret id=pip.conf,src=...` (and `--secret id=ca.pem,src=...` for its certificates): nothing of them stays.
ARG BASE_IMAGE=python:3.11-slim

# ---- what is built, and left behind ------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS builder

ENV PIP_CONFIG_FILE=/run/secrets/pip.conf \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /build

RUN python3 -m venv /app/.venv

# Before the sources: a change of code alone fetches nothing.
COPY requirements.lock ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    /app/.venv/bin/pip install --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
COPY workers ./workers
# The build backend is in the lock file and does its work here; after that nobody needs it, nor pip.
# Byte code is trusted without a look at its source: nothing here is ever changed in place.
RUN /app/.venv/bin/pip install --no-index --no-deps --no-build-isolation . \
    && /app/.venv/bin/pip uninstall --yes --quiet hatchling editables pathspec pluggy tomlkit trove-classifiers \
    && /app/.venv/bin/pip check \
    && /app/.venv/bin/pip uninstall --yes --quiet setuptools pip \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /app/.venv/lib

# ---- what both images are --------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime

# The certificates are there already in most bases. The user is known by number, so that any number can be
# given in its place (`--user`) and volumes have an owner that can be named.
RUN if [ ! -s /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update \
      && apt-get install --yes --no-install-recommends ca-certificates \
      && rm -rf /var/lib/apt/lists/*; \
    fi \
    && groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --home-dir /app/data --no-create-home --shell /usr/sbin/nologin gateway \
    && install -d -o 10001 -g 10001 /app/data

ENV HOME=/app/data \
    PATH=/app/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1

COPY --from=builder /app/.venv /app/.venv

# Some bases come without the byte code of the standard library, and at run time the root file system is
# read-only: what these modules need of it is compiled here, once, in place of at every start.
RUN python -c "import gateway.health, gateway.serving, gateway.allinone, workers.__main__, workers.simulator.__main__" \
    && lingma-gateway --version

ENV PYTHONDONTWRITEBYTECODE=1

WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["lingma-gateway"]

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="lingma-gateway" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"

# ---- a worker ----------------------------------------------------------------------------------------------
FROM runtime AS worker

# Chromium for the login pages of Lingma. It is large, and no part of the worker starts it by itself.
ARG WITH_BROWSER=0
USER 0:0
RUN if [ "${WITH_BROWSER}" = 1 ]; then \
      apt-get update \
      && apt-get install --yes --no-install-recommends chromium fonts-noto-cjk \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; \
    fi
USER 10001:10001

# The binary, its work directories and the logins in them live on the volume. Probes and scrapes come from outside.
ENV LINGMA_BIN=/app/data/bin/Lingma \
    LINGMA_WORK_DIR=/app/data/.lingma/vscode/sharedClientCache \
    WORKER_HOST=0.0.0.0

LABEL org.opencontainers.image.description="A worker of lingma-gateway: owns Lingma processes and their logins"
EXPOSE 8318
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "gateway.health", "worker"]
CMD ["work"]

# ---- a gateway, the default target ---------------------------------------------------------------------------
FROM runtime AS gateway

LABEL org.opencontainers.image.description="A replica of lingma-gateway: OpenAI, Anthropic and Gemini clients on coding models"
EXPOSE 8317
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "gateway.health"]
CMD ["serve"]
