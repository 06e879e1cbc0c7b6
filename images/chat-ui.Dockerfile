# The chat page, a client of the OpenAI API.
#   docker build -f images/chat-ui.Dockerfile -t neuron-serve/chat-ui:0.1.0 .
ARG PYTHON_IMAGE=python:3.11.7-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN pip install --no-cache-dir uv==0.13.8 && python -m venv /opt/venv
COPY images/requirements-chat-ui.txt /tmp/requirements.txt
RUN uv pip install --no-cache --python /opt/venv/bin/python -r /tmp/requirements.txt \
    && useradd --create-home --uid 1000 chat
COPY chat_ui /opt/neuron-serve/chat_ui
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/neuron-serve GRADIO_ANALYTICS_ENABLED=False
USER 1000
WORKDIR /home/chat
CMD ["python", "-m", "chat_ui"]
