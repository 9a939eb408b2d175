# numclip on a CPU: the package, its models, and a clip of two portraits to try it. The container needs no network.
# docker build --tag numclip . && docker run --rm --network none --read-only --tmpfs /results:uid=10001 numclip
FROM debian:bookworm-slim AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /opt/numclip \
    && /opt/numclip/bin/python -m pip install --no-cache-dir -c /src/constraints.txt "/src[headless]"
# The portraits come with two packages that numclip does not need at run time, so the image keeps only the clip made of them.
RUN /opt/numclip/bin/python -m pip install --no-cache-dir -c /src/constraints.txt --target /portraits matplotlib scikit-image \
    && PYTHONPATH=/portraits /opt/numclip/bin/python -c "from pathlib import Path; from numclip.demo.clip import write_clip; write_clip(Path('/opt/numclip/portraits.mp4'))" \
    && /opt/numclip/bin/python -m pip uninstall --yes setuptools pip \
    && find /opt/numclip -type d -name tests -prune -exec rm -rf {} +

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/numclip /opt/numclip
ENV PATH=/opt/numclip/bin:/usr/bin:/bin NUMCLIP_CACHE=/results/.cache
# A numeric user: a host that checks for root cannot resolve user names of an image.
USER 10001
WORKDIR /results
ENTRYPOINT ["numclip"]
CMD ["run", "/opt/numclip/portraits.mp4", "--save", "demo.mp4", "--jsonl", "demo.jsonl"]
