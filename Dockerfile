# An application on httpd and mod_manifold, without root. docs/packages.md says how to use it.
FROM rust:1-trixie AS build
WORKDIR /src
COPY . .
# scripts/setup installs what it takes.
RUN apt-get update && scripts/package deb && mv target/debian/*.deb /libapache2-mod-manifold.deb

FROM debian:trixie-slim
RUN --mount=type=bind,from=build,source=/libapache2-mod-manifold.deb,target=/libapache2-mod-manifold.deb \
    apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        /libapache2-mod-manifold.deb python3 python3-venv && \
    rm -rf /var/lib/apt/lists/* && \
    install -d -o www-data -g www-data /run/manifold
COPY docker/serve /usr/local/bin/manifold-serve
COPY examples/hello/hello.wsgi /srv/app/app.wsgi

USER www-data
WORKDIR /srv/app
EXPOSE 8000
# httpd stops gracefully by it: requests that are under way come to their end.
STOPSIGNAL SIGWINCH
# Any answer but a server's error is one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-I", "-c", \
    "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('HEAD', '/'); sys.exit(c.getresponse().status >= 500)"]
ENTRYPOINT ["manifold-serve"]
CMD ["/srv/app/app.wsgi"]
