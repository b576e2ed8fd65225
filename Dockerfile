# intentd in a small image:  docker build -t intentd .   (or make image)
#   docker run -p 8080:8080 -v "$PWD/var/models:/models:ro" intentd
# The same image holds `intent`, to train and index:  docker run --entrypoint intent ... intentd train ...

FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
# FAISS first: its layer is rebuilt only when these files change.
COPY deploy/setup.sh deploy/
COPY deploy/faiss deploy/faiss
# Which FAISS library: avx2 (any x86-64 server since 2013) or generic. Empty: what the building machine has.
ARG FAISS_OPT=
ENV FAISS_OPT=$FAISS_OPT INTENTD_CACHE=/faiss
RUN deploy/setup.sh build
COPY . .
RUN make all && make install DESTDIR=/out prefix=/usr/local && strip /out/usr/local/bin/*
# The packages that the two programs' shared libraries come from, by asking the linker rather than by a list.
RUN ldd /out/usr/local/bin/* | awk '/=> \// { print $3 }' | sort -u | xargs -n 1 readlink -f | sort -u | \
    while read -r lib; do dpkg-query -S "$lib" 2>/dev/null || dpkg-query -S "${lib#/usr}"; done | \
    cut -d: -f1 | sort -u >/out/packages

FROM debian:12-slim
COPY --from=build /out/packages /tmp/packages
RUN apt-get update && xargs apt-get install -y --no-install-recommends </tmp/packages && \
    rm -rf /var/lib/apt/lists/* /tmp/packages && \
    useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin intentd && \
    mkdir /models && chown intentd /models
COPY --from=build /out/usr/local/bin/ /usr/local/bin/
USER intentd
ENV OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
VOLUME /models
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["intentd", "--health-check", "http://127.0.0.1:8080/readyz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["intentd"]
CMD ["--models", "/models", "--listen", "0.0.0.0:8080"]
