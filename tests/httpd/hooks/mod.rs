//! Hook scripts: each result that a function may have and may not, and that every failure refuses
//! and is logged.

mod access;
mod dispatch;
mod environ;
mod groups;
mod places;
mod running;
mod users;

use std::path::Path;
use std::process::Command;

use crate::harness::{Conf, Request, Response, Server, write};

/// A server with the hook script `text` at `${APPS}/hook.py` and a file to ask for.
fn hooked(conf: Conf, text: &str) -> Server {
    Server::start_with(conf, |root| prepare(root, text))
}

fn prepare(root: &Path, text: &str) {
    write(root, "apps/hook.py", text);
    write(root, "docs/file.txt", "static");
}

/// Basic authentication by the script, for everything, with the modules it takes.
fn basic(more: &str) -> Conf {
    Conf::new(
        "<Location />\nAuthType Basic\nAuthName here\nAuthBasicProvider wsgi\n\
         WSGIAuthUserScript ${APPS}/hook.py\n</Location>",
    )
    .and(more)
    .with("authn_core")
    .with("auth_basic")
    .with("authz_user")
}

/// What a client sends who calls himself `user`.
fn login(target: &str, user: &[u8], password: &[u8]) -> Request {
    let credentials = base64(&[user, b":", password].concat());
    Request::get(target).header("Authorization", &format!("Basic {credentials}"))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            text.push(if place <= group.len() {
                DIGITS[bits >> (18 - 6 * place) & 63].into()
            } else {
                '='
            });
        }
    }
    text
}

/// Asks by curl with these arguments, and returns status and body.
fn curl(url: &str, arguments: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl runs (scripts/setup installs it)");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = said.rsplit_once('\n').expect("the status comes last");
    (status.to_owned(), body.to_owned())
}

/// The lines of `print(f"{key}={value!r}", file=environ["wsgi.errors"])` in the log.
fn noted(server: &Server, key: &str) -> String {
    let line = server.log().wait_for(&[&format!(" note {key}=")]);
    line.rsplit_once(&format!(" note {key}=")).expect("the note").1.to_owned()
}

#[track_caller]
fn refused(answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(!answer.text().contains("static"), "what was refused was sent");
}

#[test]
fn the_encoding_of_credentials_is_base64() {
    let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
    for (plain, encoded) in known {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
}
