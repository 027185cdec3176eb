# The dashboard with a worker beside it; `make image` builds it with docker, podman or buildah, or:
#   docker build -t strata . && docker run -p 127.0.0.1:8501:8501 -v strata:/strata/var strata
# Open it as http://localhost:8501. --build-arg STRATA_TORCH=index takes torch with CUDA in place of the CPU build.
# Settings of pip's (PIP_INDEX_URL, …) can be passed as build arguments, too.
FROM python:3.11-slim AS build

ARG STRATA_TORCH=cpu
ARG EXTRAS="cluster figures"
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
WORKDIR /strata
COPY pyproject.toml install.py requirements.lock requirements-cpu.lock ./
RUN python install.py ${EXTRAS} --venv /opt/strata

FROM python:3.11-slim

COPY --from=build /opt/strata /opt/strata
WORKDIR /strata
COPY app.py ./
COPY .streamlit .streamlit
COPY pages pages
COPY charts charts
COPY robustness_core robustness_core
COPY store store
COPY worker worker
COPY zoo zoo

ENV PATH=/opt/strata/bin:$PATH PYTHONPATH=/strata PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --create-home strata && mkdir var && chown strata var
USER strata
VOLUME /strata/var
EXPOSE 8501

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"

CMD ["python", "-m", "store", "attend", "python", "-m", "streamlit", "run", "app.py", "--server.address", "0.0.0.0", "--server.port", "8501"]
