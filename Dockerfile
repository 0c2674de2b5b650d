# Two stages: what installs is left behind. Settings come from the environment (LIGHTFAST_…), secrets from env: or file:.
FROM python:3.13-slim AS build
WORKDIR /app
RUN python -m venv /venv && /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check uv
COPY pyproject.toml constraints.txt README.md ./
# The libraries first: they change less often than the code, so most builds begin below this line.
RUN \
    /venv/bin/uv pip compile --quiet --extra parquet -c constraints.txt pyproject.toml -o locked.txt && \
    UV_COMPILE_BYTECODE=1 /venv/bin/uv pip install --no-cache -p /venv/bin/python -r locked.txt
COPY . .
RUN UV_COMPILE_BYTECODE=1 /venv/bin/uv pip install --no-cache --no-deps -p /venv/bin/python . && \
    /venv/bin/uv pip uninstall --quiet -p /venv/bin/python pip uv

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /data lightfast
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LIGHTFAST_LOG=json \
    LIGHTFAST_HEARTBEAT_FILE=/tmp/lightfast-heartbeat
USER lightfast
# A ledger on SQLite, the spool and the rescue file live here: mount a volume.
WORKDIR /data
STOPSIGNAL SIGTERM
# A worker whose lanes look for work touches the file every 10 s (docs/how-to/cluster.md); web and beat override this check.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os,sys,time; sys.exit(time.time() - os.stat(os.environ['LIGHTFAST_HEARTBEAT_FILE']).st_mtime > 45)"]
CMD ["lightfast", "--help"]
