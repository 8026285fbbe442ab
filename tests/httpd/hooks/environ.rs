//! What hook scripts are told.

use super::{basic, curl, hooked, login, noted, prepare, refused};
use crate::harness::{Conf, Request, Server, write};
use std::process::Command;

/// Logs all it is told, and lets in.
const NOTES: &str = r#"
def allow_access(environ, host):
    for key, value in sorted(environ.items()):
        print(f" note {key}={value!r}", file=environ["wsgi.errors"])
    print(" note present=", sorted(environ), sep="", file=environ["wsgi.errors"])
    return True


def check_password(environ, user, password):
    allow_access(environ, "")
    return True


def groups_for_user(environ, user):
    allow_access(environ, "")
    return ["staff"]
"#;

#[test]
fn an_access_script_is_told_what_the_request_says() {
    let conf = Conf::new(
        "<Location />\nWSGIAccessScript ${APPS}/hook.py application-group=hooks\nCGIPassAuth On\n\
         </Location>\nSetEnvIf Request_URI . FROM_ENV=yes HTTP_PROXY_AUTHORIZATION=secret",
    );
    let server = hooked(conf.with("setenvif"), NOTES);
    let request = Request::get("/file.txt/more?a=1")
        .header("X-Own", "caf\u{e9}")
        .header("Authorization", "Basic eDp5");
    server.send(&request);
    for (key, value) in [
        ("REQUEST_METHOD", "'GET'"),
        ("REQUEST_URI", "'/file.txt/more?a=1'"),
        ("QUERY_STRING", "'a=1'"),
        ("SCRIPT_NAME", "'/file.txt'"),
        ("PATH_INFO", "'/more'"),
        ("REMOTE_ADDR", "'127.0.0.1'"),
        ("SERVER_NAME", "'127.0.0.1'"),
        ("HTTP_X_OWN", r"'caf\xc3\x83\xc2\xa9'"), // as httpd's log writes UTF-8
        ("FROM_ENV", "'yes'"),
        ("mod_wsgi.process_group", "''"),
        ("mod_wsgi.application_group", "'hooks'"),
        ("mod_wsgi.version", "(6, 1, 1)"),
    ] {
        assert_eq!(noted(&server, key), value, "{key}");
    }
    assert!(noted(&server, "apache.version").starts_with("(2, 4, "));
    assert!(noted(&server, "DOCUMENT_ROOT").ends_with("/docs'"));
    assert!(noted(&server, "SCRIPT_FILENAME").ends_with("/docs/file.txt'"));
    let present = noted(&server, "present");
    for key in [
        "HTTP_AUTHORIZATION",
        "HTTP_PROXY_AUTHORIZATION",
        "wsgi.input",
        "wsgi.version",
        "wsgi.file_wrapper",
        "mod_wsgi.callable_object",
        "REMOTE_USER",
    ] {
        assert!(!present.contains(&format!("'{key}'")), "{key}: {present}");
    }
    assert!(!server.log().text().contains("eDp5"));
}

#[test]
fn user_and_group_scripts_are_told_the_same() {
    let conf = basic(
        "<Location />\nWSGIAuthGroupScript ${APPS}/hook.py application-group=groups\n\
         Require wsgi-group staff\n</Location>",
    );
    let server = hooked(conf, NOTES);
    server.send(&login("/file.txt", b"me", b"word")).expect(200, "static");
    for group in ["''", "'groups'"] {
        server.log().wait_for(&[&format!("note mod_wsgi.application_group={group}")]);
    }
    let log = server.log();
    for line in log.wait_for_count(&["note present="], 2) {
        assert!(!line.contains("AUTHORIZATION") && line.contains("'HTTP_HOST'"), "{line}");
    }
}

#[test]
fn what_a_script_is_told_stays_out_of_other_decisions() {
    // `Require env` believes variables, and clients choose their headers.
    let conf = Conf::new(
        "<Location />\nWSGIAccessScript ${APPS}/hook.py\nRequire env HTTP_X_LET_ME_IN\n</Location>",
    );
    let server = hooked(conf.with("authz_host"), NOTES);
    refused(&server.send(&Request::get("/file.txt").header("X-Let-Me-In", "please")), 403);
    noted(&server, "HTTP_X_LET_ME_IN");
}

const TLS: &str = r#"
kept = []


def allow_access(environ, host):
    lookup = environ["mod_ssl.var_lookup"]
    note = lambda key, value: print(f" note {key}={value!r}", file=environ["wsgi.errors"])
    note("https", environ["mod_ssl.is_https"]())
    note("protocol", lookup("SSL_PROTOCOL"))
    note("subject", lookup("SSL_SERVER_S_DN_CN"))
    note("unknown", lookup("NO_SUCH_VARIABLE"))
    note("nul", lookup("SSL\0PROTOCOL"))
    for arguments in [(), (1,), ("a", "b"), ("\u20ac",)]:
        try:
            note("odd", lookup(*arguments))
        except Exception as error:
            note(f"wrong{len(arguments)}", type(error).__name__)
    for old in kept:
        try:
            old("SSL_PROTOCOL")
        except RuntimeError as error:
            note("late", str(error))
    kept.append(lookup)
    return True
"#;

const GUARDED: &str = "<Location />\nWSGIAccessScript ${APPS}/hook.py\n</Location>";

#[test]
fn without_encryption_it_is_told_so() {
    let server = hooked(Conf::new(GUARDED), TLS);
    server.get("/file.txt").expect(200, "static");
    server.get("/file.txt").expect(200, "static");
    for (key, value) in [("https", "False"), ("protocol", "None"), ("nul", "None")] {
        assert_eq!(noted(&server, key), value, "{key}");
    }
    for (key, value) in [("wrong0", "'TypeError'"), ("wrong2", "'TypeError'")] {
        assert_eq!(noted(&server, key), value, "{key}");
    }
    assert!(noted(&server, "late").contains("after its request had ended"));
    assert!(server.log().lines_with(&["note odd="]).is_empty());
}

#[test]
fn a_script_may_ask_about_the_encryption_of_the_connection() {
    let conf = Conf::new(GUARDED)
        .and("SSLEngine On\nSSLCertificateFile ${ROOT}/pair.pem\nSSLSessionCache none")
        .with("ssl");
    let server = Server::start_with(conf, |root| {
        prepare(root, TLS);
        write(root, "pair.pem", &certificate());
    });
    let url = format!("https://{}/file.txt", server.address());
    assert_eq!(curl(&url, &["--insecure"]), ("200".into(), "static".into()));
    assert_eq!(noted(&server, "https"), "True");
    assert!(noted(&server, "protocol").starts_with("'TLSv1"));
    assert_eq!(noted(&server, "subject"), "'manifold.test'");
}

/// A certificate that nobody has signed, with its key.
fn certificate() -> String {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=manifold.test", "-keyout", "-", "-out", "-"])
        .output()
        .expect("openssl runs (scripts/setup installs it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("PEM is ASCII")
}
