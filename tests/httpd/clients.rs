//! Clients that people use, against applications they might: git, curl, requests.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Conf, Server, pattern, test_python};

/// Runs a program, which has to succeed, and returns what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings = ["user.name=A", "user.email=a@b.test", "init.defaultBranch=main"];
    let mut command = Command::new("git");
    command.current_dir(folder).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    for setting in settings {
        command.args(["-c", setting]);
    }
    run(command.args(arguments))
}

/// A push of more than git buffers comes in chunks, a clone is a stream of blocks.
#[test]
fn git_pushes_to_a_server_written_in_wsgi_and_clones_from_it() {
    let server = Server::start(Conf::new(
        "WSGIChunkedRequest On\nWSGIScriptAlias / ${APPS}/git.wsgi application-group=git",
    ));
    let home = tempfile::tempdir().expect("a folder");
    let (work, copy) = (home.path().join("work"), home.path().join("copy"));
    let url = format!("http://{}/site.git", server.address());
    git(home.path(), &["init", "--quiet", "work"]);
    // Of no use to a compressor, so that it is as large on its way.
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let noise: Vec<u8> = noise.take(3 << 20).collect();
    fs::write(work.join("noise"), &noise).expect("written");
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "noise"]);
    git(&work, &["push", "--quiet", &url, "main"]);
    git(home.path(), &["clone", "--quiet", "--branch", "main", &url, "copy"]);
    assert_eq!(fs::read(copy.join("noise")).expect("cloned"), noise);
    let head = |folder: &Path| git(folder, &["rev-parse", "HEAD"]);
    assert_eq!(head(&work), head(&copy));
    // What is new only, both ways.
    fs::write(copy.join("more"), "more").expect("written");
    git(&copy, &["add", "."]);
    git(&copy, &["commit", "--quiet", "-m", "more"]);
    git(&copy, &["push", "--quiet", "origin", "main"]);
    git(&work, &["pull", "--quiet", &url, "main"]);
    assert_eq!(head(&work), head(&copy));
}

/// What curl does by itself: it waits for 100 Continue, sends files in chunks, follows a stream.
#[test]
fn curl_uploads_with_and_without_a_length() {
    let conf = Conf::serving("echo.wsgi").and("WSGIChunkedRequest On");
    let server = Server::start(conf);
    let url = format!("http://{}/x", server.address());
    let folder = tempfile::tempdir().expect("a folder");
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let body = pattern(5 << 20);
    fs::write(&sent, &body).expect("written");
    let file = format!("@{}", sent.display());
    for more in [
        &[][..],
        &["-H", "Transfer-Encoding: chunked"],
        &["-H", "Expect: 100-continue", "--expect100-timeout", "60"],
        &["--http1.0"],
    ] {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "60",
            "--data-binary",
            &file,
        ]);
        run(curl.args(more).arg("--output").arg(&got).arg(&url));
        assert!(fs::read(&got).expect("curl wrote it") == body, "{more:?}: another body came back");
    }
}

const SESSION: &str = r#"
import sys, threading, requests
base = sys.argv[1]

with requests.Session() as session:
    # One connection for all of these, as the client's port shows.
    ports = {session.get(base + "/port").text for _ in range(20)}
    assert len(ports) == 1, ports
    # A generator is sent in chunks.
    blocks = [bytes([n]) * 10_000 for n in range(50)]
    answer = session.post(base + "/echo", data=iter(blocks))
    assert answer.content == b"".join(blocks), len(answer.content)
    # Two cookies, and a redirect that brings them back.
    answer = session.get(base + "/login")
    assert answer.history[0].status_code == 302
    assert answer.text == "one=1; two=2", answer.text
    # A streamed response, block by block.
    with session.get(base + "/stream", stream=True) as answer:
        blocks = list(answer.iter_content(None))
    assert b"".join(blocks) == b"".join(b"%06d\n" % n for n in range(2000))

def many():
    with requests.Session() as session:
        for n in range(50):
            assert session.post(base + "/echo", data=str(n)).text == str(n)

threads = [threading.Thread(target=many) for _ in range(8)]
failures = []
threading.excepthook = lambda args: failures.append(args.exc_value)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
print("well")
"#;

const APPLICATION: &str = r#"
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/port":
        body = [environ["REMOTE_PORT"].encode()]
    elif path == "/echo":
        body = [environ["wsgi.input"].read()]
    elif path == "/login":
        cookies = [("Set-Cookie", "one=1; Path=/"), ("Set-Cookie", "two=2; Path=/")]
        start_response("302 Found", [("Location", "/cookies"), *cookies])
        return []
    elif path == "/cookies":
        body = ["; ".join(sorted(environ["HTTP_COOKIE"].split("; "))).encode()]
    else:
        body = (b"%06d\n" % n for n in range(2000))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return body
"#;

#[test]
fn requests_keeps_its_connection_its_cookies_and_its_streams() {
    let conf = Conf::new(
        "WSGIChunkedRequest On\nWSGIScriptAlias / ${APPS}/session.wsgi application-group=session",
    );
    // With fewer threads than connections, event MPM closes kept ones when every thread is busy, and
    // a POST that is under way then is lost to its client.
    let server = Server::start_with(conf.threads(16), |root| {
        crate::harness::write(root, "apps/session.wsgi", APPLICATION);
    });
    let url = format!("http://{}", server.address());
    let said = run(Command::new(test_python()).args(["-c", SESSION, &url]));
    assert_eq!(said.trim(), "well");
}
