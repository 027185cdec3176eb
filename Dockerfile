# The dashboard with a worker beside it: docker build -t strata . && docker run -p 127.0.0.1:8501:8501 -v strata:/strata/var strata
# Open the dashboard as http://localhost:8501. For wheels of another kind (CPU only, a CUDA version), pass pip's own
# option: --build-arg PIP_OPTIONS="--extra-index-url ADDRESS". --build-arg REQUIREMENTS=requirements.lock installs only
# files whose hashes are in that lock; it and requirements-cluster.txt also hold what compose.yaml needs.
FROM python:3.11-slim

ARG PIP_OPTIONS=""
ARG REQUIREMENTS=requirements.txt
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PYTHONPATH=/strata

WORKDIR /strata
COPY requirements.txt requirements-cluster.txt requirements-figures.txt requirements.lock ./
RUN pip install --disable-pip-version-check ${PIP_OPTIONS} -r ${REQUIREMENTS}

COPY app.py ./
COPY .streamlit .streamlit
COPY pages pages
COPY charts charts
COPY robustness_core robustness_core
COPY store store
COPY worker worker
COPY zoo zoo

RUN useradd --create-home strata && mkdir var && chown strata var
USER strata
VOLUME /strata/var
EXPOSE 8501

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"

CMD ["python", "-m", "store", "attend", "python", "-m", "streamlit", "run", "app.py", "--server.address", "0.0.0.0", "--server.port", "8501"]
