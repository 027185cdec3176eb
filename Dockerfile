# The dashboard with a worker beside it; `make image` builds it with docker, podman or buildah, or:
#   docker build -t strata . && docker run -p 127.0.0.1:8501:8501 -v strata:/strata/var strata
# Open it as http://localhost:8501. All that is kept lies in the volume; `--read-only --tmpfs /tmp` works. The other
# commands: docker run -v strata:/strata/var strata strata audit …
#
# --build-arg STRATA_TORCH=index takes torch with CUDA in place of the CPU build; PIP_INDEX_URL and the like name another
# package index.
FROM python:3.11-slim AS build

ARG STRATA_TORCH=cpu
ARG EXTRAS="cluster figures"
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
WORKDIR /strata
COPY pyproject.toml install.py requirements.lock requirements-cpu.lock ./
RUN python install.py ${EXTRAS} --venv /opt/strata

FROM python:3.11-slim

COPY --from=build /opt/strata /opt/strata
WORKDIR /strata
COPY .streamlit .streamlit
COPY app.py strata.py ./
COPY charts charts
COPY pages pages
COPY robustness_core robustness_core
COPY store store
COPY worker worker
COPY zoo zoo

# HOME is in the volume, for what libraries keep there. Python compiles here what it imports; later it may not write.
ENV PATH=/opt/strata/bin:$PATH PYTHONPATH=/strata PYTHONUNBUFFERED=1 \
    HOME=/strata/var STRATA_HOME=/strata/var STRATA_CACHE=/strata/var/cache
RUN python -m compileall -q . && STRATA_WORKER=none python -c "import app, pages.parts.report, worker.process, alembic.command, onnx" \
  && rm -rf var && useradd --home-dir /strata/var --create-home strata
USER strata
VOLUME /strata/var
EXPOSE 8501

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"

CMD ["strata", "run", "--server.address", "0.0.0.0", "--server.port", "8501"]
