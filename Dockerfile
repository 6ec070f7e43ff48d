# A server on the processor, without any rights of its own:
#
#     docker build --tag chainrule .
#     docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --publish 127.0.0.1:8000:8000 \
#         --volume "$PWD/my-run:/srv/model:ro" --env CHAINRULE_API_KEY chainrule
#
# The key is needed because the server inside listens to the network of the container.
FROM python:3.11-slim

WORKDIR /opt/chainrule
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin chainrule
COPY pyproject.toml constraints.txt README.md LICENSE THIRD_PARTY.md ./
COPY chainrule chainrule
# PyPI has the CUDA build, of several gigabytes.
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[serve]'

USER 10001
WORKDIR /tmp
ENV NUMBA_CACHE_DIR=/tmp/numba PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["chainrule", "serve", "--host", "0.0.0.0"]
CMD ["/srv/model"]
