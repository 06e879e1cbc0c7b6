"""The environment variables that hand an app what must not stand in a serve config.

The RayService's pod template sets them; the local run sets them to its own files.
"""

API_KEYS_FILE_ENV = "NEURON_SERVE_API_KEYS_FILE"
MODEL_CACHE_ENV = "NEURON_SERVE_MODEL_CACHE"
