"""The HTTP server: OpenAI's API and routes of its own over the inference calls of runs. It holds no logic of models."""
