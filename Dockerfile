# The `dsm` command in a container, for CPUs or for NVIDIA GPUs. docs/container.md says how to build and use it.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# Which of PyTorch's builds: cpu, or a version of CUDA that the driver knows, as cu128.
ARG TORCH=cpu
# Extras of pyproject.toml, with commas between them.
ARG EXTRAS=parquet
RUN python -m venv /opt/dsm
ENV PATH=/opt/dsm/bin:$PATH
WORKDIR /source
# torch alone first: it is nearly all of the image, and seldom changes.
COPY requirements.txt ./
RUN pip install --no-cache-dir --no-compile --constraint requirements.txt \
        --index-url "https://download.pytorch.org/whl/${TORCH}" torch
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --no-compile --constraint requirements.txt ".[${EXTRAS}]" \
    && pip uninstall --yes pip

FROM python:${PYTHON}-slim-bookworm
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dsm" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --create-home --uid 1000 dsm && install --directory --owner=dsm /work
COPY --from=build /opt/dsm /opt/dsm
# Caches lie where any user may write: `docker run --user` brings users that have no home.
ENV PATH=/opt/dsm/bin:$PATH \
    MPLCONFIGDIR=/tmp/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    PYTHONPYCACHEPREFIX=/tmp/pycache
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["dsm"]
CMD ["--help"]
