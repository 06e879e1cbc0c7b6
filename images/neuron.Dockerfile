# Ray with the llm app and transformers-neuronx, for inf2 and trn1 nodes.
#   docker build -f images/neuron.Dockerfile -t neuron-serve/neuron:0.1.0 .
# The base is the last one that AWS publishes with transformers-neuronx: SDK 2.25.0, Python 3.10
# (https://github.com/aws-neuron/deep-learning-containers, looked up 2026-11).
ARG NEURON_IMAGE=public.ecr.aws/neuron/pytorch-inference-neuronx:2.7.0-neuronx-py310-sdk2.25.0-ubuntu22.04
FROM ${NEURON_IMAGE}
USER root
COPY images/requirements-neuron.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt \
    # The stubs of the public index have the versions 0.1 and 1.0.
    && python -c "from importlib.metadata import version; assert version('transformers-neuronx').startswith('0.13.')"
# The base is made for development and for another server. No `autoremove`: it takes libraries along.
RUN apt-get purge -y build-essential cmake cpp cpp-11 dpkg-dev emacs g++ g++-11 gcc gcc-11 git make \
        openjdk-11-jdk vim \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove model-server \
    && useradd --create-home --uid 1000 --shell /bin/bash ray \
    # KubeRay's probes and its clean-up job call these.
    && command -v python bash wget ray
COPY serve_apps /opt/neuron-serve/serve_apps
ENV PYTHONPATH=/opt/neuron-serve \
    RAY_USAGE_STATS_ENABLED=0 \
    TEMP=/tmp
HEALTHCHECK NONE
ENTRYPOINT []
CMD ["bash"]
USER 1000
WORKDIR /home/ray
