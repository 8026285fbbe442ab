//! The same over TLS (mod_ssl) and HTTP/2 (mod_http2), with clients that speak them.

use std::path::Path;
use std::process::Command;

use crate::harness::{Conf, Server, test_python, write};

const APPLICATION: &str = r#"
import threading

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["REQUEST_METHOD"] == "POST":
        return [environ["wsgi.input"].read()]
    if environ["PATH_INFO"] == "/stream":
        return (b"x" * 1000 for _ in range(500))
    keys = ["wsgi.url_scheme", "HTTPS", "SERVER_PORT", "REQUEST_SCHEME", "SSL_PROTOCOL", "SSL_CIPHER",
            "SSL_TLS_SNI", "SERVER_PROTOCOL", "REMOTE_PORT", "HTTP2", "H2PUSH"]
    return [f"{key}\t{environ.get(key)}\n".encode() for key in keys]
"#;

/// A server that speaks nothing but TLS, with a certificate for `localhost`.
fn secure(text: &str) -> Conf {
    over_tls(Conf::new(text)).and("WSGIScriptAlias / ${APPS}/secure.wsgi application-group=secure")
}

fn over_tls(conf: Conf) -> Conf {
    conf.and(
        "ServerName localhost\nSSLEngine on\nSSLCertificateFile conf/cert.pem\n\
         SSLCertificateKeyFile conf/key.pem\nSSLSessionCache none",
    )
    .with("ssl")
}

/// The same in front of a handler script of `tests/apps`, with HTTP/2 where the configuration says so.
pub(crate) fn serving(app: &str, more: &str) -> Server {
    Server::start_with(over_tls(Conf::serving(app)).and(more).with("http2"), |root| {
        make_certificate(&root.join("conf"));
    })
}

fn start(conf: Conf) -> Server {
    Server::start_with(conf, |root| {
        write(root, "apps/secure.wsgi", APPLICATION);
        make_certificate(&root.join("conf"));
    })
}

fn make_certificate(folder: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder).args(["req", "-x509", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]);
    openssl.args(["-keyout", "key.pem", "-out", "cert.pem"]);
    let output = openssl.output().expect("openssl runs; httpd's development package brings it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a client of the test's own; `BASE` and `CERTIFICATE` are set for it.
#[track_caller]
pub(crate) fn client(server: &Server, script: &str) {
    let base = format!("https://localhost:{}", server.port());
    let preamble = "import os\nBASE, CERTIFICATE = os.environ['BASE'], os.environ['CERTIFICATE']\n";
    let output = Command::new(test_python())
        .args(["-c", &format!("{preamble}{script}")])
        .env("BASE", base)
        .env("CERTIFICATE", server.path("conf/cert.pem"))
        .output()
        .expect("the client runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_application_over_tls_knows_that_it_is() {
    let server = start(secure("SSLOptions +StdEnvVars"));
    client(
        &server,
        r#"
import requests
facts = dict(line.split("\t") for line in requests.get(BASE + "/x", verify=CERTIFICATE).text.splitlines())
assert facts["wsgi.url_scheme"] == "https", facts
assert facts["REQUEST_SCHEME"] == "https", facts
assert facts["HTTPS"] == "None", facts
assert facts["SERVER_PORT"] == BASE.rpartition(":")[2], facts
assert facts["SSL_PROTOCOL"].startswith("TLSv1."), facts
assert facts["SSL_TLS_SNI"] == "localhost" and facts["SSL_CIPHER"] != "None", facts
body = os.urandom(3_000_000)
assert requests.post(BASE + "/x", data=body, verify=CERTIFICATE).content == body
assert requests.get(BASE + "/stream", verify=CERTIFICATE).content == b"x" * 500_000
"#,
    );
}

#[test]
fn without_its_variables_mod_ssl_still_makes_the_scheme() {
    let server = start(secure(""));
    client(
        &server,
        r#"
import requests
text = requests.get(BASE + "/x", verify=CERTIFICATE).text
assert "wsgi.url_scheme\thttps\n" in text and "SSL_PROTOCOL\tNone\n" in text, text
"#,
    );
}

/// mod_http2 runs handlers on threads of its own, more of them than httpd has.
#[test]
fn a_hundred_streams_of_one_http2_connection_are_answered_each_by_its_own() {
    let server = start(secure("Protocols h2 http/1.1\nH2MaxSessionStreams 200").with("http2"));
    client(
        &server,
        r#"
import asyncio, httpx, ssl

async def main():
    context = ssl.create_default_context(cafile=CERTIFICATE)
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(http2=True, verify=context, limits=limits, timeout=60) as client:
        bodies = [os.urandom(40_000) + str(n).encode() for n in range(100)]
        async def one(body):
            answer = await client.post(BASE + "/x", content=body)
            assert answer.http_version == "HTTP/2", answer.http_version
            assert answer.status_code == 200, answer.status_code
            assert answer.content == body
            shown = await client.get(BASE + "/x")
            return dict(line.split("\t") for line in shown.text.splitlines())
        facts = await asyncio.gather(*map(one, bodies))
        assert len({fact["REMOTE_PORT"] for fact in facts}) == 1, "one connection"
        assert {fact["SERVER_PROTOCOL"] for fact in facts} == {"HTTP/2.0"}
        assert {fact["wsgi.url_scheme"] for fact in facts} == {"https"}
        streams = await asyncio.gather(*(client.get(BASE + "/stream") for _ in range(20)))
        assert all(stream.content == b"x" * 500_000 for stream in streams)

asyncio.run(main())
"#,
    );
}

/// A client that resets a stream ends that request only.
#[test]
fn a_stream_that_is_given_up_takes_no_other_along() {
    let server = start(secure("Protocols h2 http/1.1").with("http2"));
    client(
        &server,
        r#"
import asyncio, httpx, ssl

async def main():
    context = ssl.create_default_context(cafile=CERTIFICATE)
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(http2=True, verify=context, limits=limits, timeout=60) as client:
        for _ in range(20):
            async with client.stream("GET", BASE + "/stream") as answer:
                async for block in answer.aiter_raw():
                    break
            whole = await client.get(BASE + "/stream")
            assert whole.http_version == "HTTP/2" and whole.content == b"x" * 500_000

asyncio.run(main())
"#,
    );
}
