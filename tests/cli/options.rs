//! What the options of `serve` do to a server.

use crate::harness::{Serving, answering, curl, folder, open_to_all, write};
use crate::port::Port;
use std::path::Path;
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().expect("a name")
}

#[test]
fn existing_files_are_httpds_and_the_rest_is_the_applications() {
    let at = folder();
    let script = write(
        at.path(),
        "app.wsgi",
        &answering("environ['SCRIPT_NAME'] + '|' + environ['PATH_INFO']"),
    );
    write(at.path(), "public/style.css", "body {}\n");
    write(at.path(), "public/sub/page.html", "<p>a page\n");
    write(at.path(), "public/.htaccess", "secret\n");
    write(at.path(), "media/logo.svg", "<svg/>\n");
    let alone = write(at.path(), "elsewhere/robots.txt", "none\n");
    write(at.path(), "elsewhere/other.txt", "private\n");
    let serving = Serving::start(
        text(&script),
        &[
            "--document-root",
            text(&at.path().join("public")),
            "--url-alias",
            "/media",
            text(&at.path().join("media")),
            "--url-alias",
            "/robots.txt",
            text(&alone),
            "--server-status",
        ],
    );
    let css = serving.curl("/style.css", &[]);
    assert_eq!((css.status, &*css.body), (200, "body {}\n"));
    assert!(css.head.contains("content-type: text/css"), "{}", css.head);
    assert_eq!(serving.get("/sub/page.html"), "<p>a page\n");
    assert_eq!(serving.get("/"), "|/");
    assert_eq!(serving.get("/sub/"), "|/sub/", "a folder is no file");
    assert_eq!(serving.get("/style.css.map"), "|/style.css.map");
    assert_eq!(serving.get("/no/such?x"), "|/no/such");
    assert_eq!(serving.curl("/.htaccess", &[]).status, 403);
    assert_eq!(serving.get("/media/logo.svg"), "<svg/>\n");
    assert_eq!(
        serving.curl("/media/none.svg", &[]).status,
        404,
        "an alias is no part of the application"
    );
    assert_eq!(serving.get("/robots.txt"), "none\n");
    assert!(serving.get("/server-status?auto").contains("ServerVersion"));
    // No file may have such a name, but an application may be asked for it.
    for length in [255, 256, 300, 4000] {
        let long = format!("/{}/é", "x".repeat(length));
        let asked = long.replace('é', "%C3%A9");
        let answer = serving.get(&asked);
        assert_eq!(answer.len(), long.len() + 1 + 2, "{length}: {answer}"); // as Latin-1, encoded again
    }
}

#[test]
fn an_application_has_what_is_below_its_mount_point_only() {
    let at = folder();
    let script = write(
        at.path(),
        "app.wsgi",
        &answering("environ['SCRIPT_NAME'] + '|' + environ['PATH_INFO']"),
    );
    for mode in [&[][..], &["--embedded-mode"]] {
        let serving =
            Serving::start(text(&script), &[&["--mount-point", "/a/shop"], mode].concat());
        let address = serving.url.trim_end_matches("/a/shop").to_owned();
        assert_eq!(curl(&format!("{address}/a/shop"), &[]).body, "/a/shop|");
        assert_eq!(curl(&format!("{address}/a/shop/x/y"), &[]).body, "/a/shop|/x/y");
        assert_eq!(curl(&format!("{address}/a/shopping"), &[]).status, 404);
        assert_eq!(curl(&format!("{address}/"), &[]).status, 404);
    }
}

#[test]
fn https_and_http2_with_a_certificate_and_http_leads_there() {
    let at = folder();
    let script = write(
        at.path(),
        "app.wsgi",
        &answering("environ['wsgi.url_scheme'] + environ['SERVER_PROTOCOL']"),
    );
    let (certificate, key) = (at.path().join("cert.pem"), at.path().join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-subj", "/CN=localhost", "-days", "1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Root's httpd reads it before it becomes somebody else.
    open_to_all(&key, 0o600);
    let options = ["--https-port", "0", "--http2", "--https-only"];
    let files =
        ["--ssl-certificate-file", text(&certificate), "--ssl-certificate-key-file", text(&key)];
    let serving = Serving::start(text(&script), &[&options[..], &files].concat());
    assert!(serving.url.starts_with("https://localhost:"), "{}", serving.url);
    assert_eq!(serving.curl("/", &["--http1.1"]).body, "httpsHTTP/1.1");
    assert_eq!(serving.curl("/", &["--http2"]).body, "httpsHTTP/2.0");
    drop(serving);
    // The port of HTTP is not shown then, so it is chosen here.
    let held = Port::hold("127.0.0.1:0").expect("a port");
    let port = held.number();
    let mut command = crate::harness::manifold();
    command.arg("serve").arg(&script).args(["--port", &port.to_string()]).args(options).args(files);
    let serving = Serving::spawn(command);
    let answer = curl(&format!("http://127.0.0.1:{port}/x"), &[]);
    assert_eq!(answer.status, 301);
    assert!(answer.head.contains(&format!("location: {}/x", serving.url)), "{}", answer.head);
}

#[test]
fn the_options_about_requests_and_responses_hold() {
    let at = folder();
    let script = write(
        at.path(),
        "app.wsgi",
        "import time\n\
         def application(environ, start_response):\n\
         \x20   if environ['PATH_INFO'] == '/slow':\n\
         \x20       time.sleep(600)\n\
         \x20   if environ['PATH_INFO'] == '/error':\n\
         \x20       start_response('500 Oh', [('Content-Type', 'text/plain')])\n\
         \x20       return [b'my own words']\n\
         \x20   body = '\\n'.join([environ['REMOTE_ADDR'], environ.get('FLAVOUR', ''), 'x' * 5000]).encode()\n\
         \x20   environ['wsgi.input'].read()\n\
         \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
         \x20   return [body]\n",
    );
    let more = write(
        at.path(),
        "more.conf",
        "<IfModule !headers_module>\nErrorDocument 500 \"as included\"\n</IfModule>\n",
    );
    let serving = Serving::start(
        text(&script),
        &[
            "--trust-proxy-header",
            "X-Forwarded-For",
            "--trust-proxy",
            "127.0.0.1",
            "--setenv",
            "FLAVOUR",
            "sweet and sour",
            "--compress-responses",
            "--limit-request-body",
            "1000",
            "--error-override",
            "--include-file",
            text(&more),
            "--request-timeout",
            "1",
            "--replicas",
            "2",
            "--processes",
            "2",
        ],
    );
    let answer = serving.curl("/", &["-H", "X-Forwarded-For: 10.1.2.3"]);
    let lines: Vec<_> = answer.body.lines().collect();
    assert_eq!(lines[..2], ["10.1.2.3", "sweet and sour"]);
    let answer = serving.curl("/", &["--compressed"]);
    assert!(answer.head.contains("content-encoding: gzip"), "{}", answer.head);
    assert_eq!(serving.curl("/", &["-d", &"x".repeat(1001)]).status, 413);
    assert_eq!(serving.curl("/error", &[]).body, "as included");
    assert_eq!(serving.curl("/slow", &[]).status, 504);
}

#[test]
fn the_application_group_chooses_the_interpreter() {
    let at = folder();
    let which = answering(
        "(__import__('_interpreters').get_current()[0], environ['mod_wsgi.application_group'])",
    );
    let script = write(at.path(), "app.wsgi", &which);
    for (options, expected) in [
        (&["--application-group", "%{GLOBAL}"][..], "(0, '')"),
        (&["--application-group", "mine"], "(1, 'mine')"),
        (&[], "(1, 'app')"),
        (&["--embedded-mode"], "(1, 'app')"),
    ] {
        assert_eq!(Serving::start(text(&script), options).get("/"), expected, "{options:?}");
    }
}

#[test]
fn every_mpm_serves_in_either_mode_with_as_many_processes_as_are_asked_for() {
    let at = folder();
    let script = write(
        at.path(),
        "app.wsgi",
        &answering("(environ['wsgi.multiprocess'], environ['wsgi.multithread'])"),
    );
    for (mpm, mode, threads) in [
        ("event", &[][..], "True"),
        ("worker", &[], "True"),
        ("prefork", &[], "True"),
        ("worker", &["--embedded-mode"], "True"),
        ("prefork", &["--embedded-mode"], "False"),
    ] {
        for processes in ["1", "2"] {
            let options = [&["--server-mpm", mpm, "--processes", processes], mode].concat();
            let serving = Serving::start(text(&script), &options);
            let expected = if processes == "2" { "True" } else { "False" };
            assert_eq!(serving.get("/"), format!("({expected}, {threads})"), "{options:?}");
        }
    }
}

#[test]
fn an_address_of_ipv6_is_bracketed_in_urls() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("left out: this machine has no address ::1");
        return;
    }
    let at = folder();
    let script = write(at.path(), "app.wsgi", &answering("environ['REMOTE_ADDR']"));
    let serving = Serving::start(text(&script), &["--host", "::1"]);
    assert!(serving.url.starts_with("http://[::1]:"), "{}", serving.url);
    assert_eq!(serving.curl("/", &["--globoff"]).body, "::1");
}
