//! `wsgi.file_wrapper`: files that httpd sends by itself, and what is iterated instead.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::harness::{Conf, PATIENCE, Request, Response, Server, at_once, pattern};

/// A server whose file has these bytes.
fn serve_with(conf: Conf, bytes: &[u8]) -> Server {
    let bytes = bytes.to_vec();
    Server::start_with(conf, move |root| put(&root.join("state"), &bytes))
}

fn put(state: &std::path::Path, bytes: &[u8]) {
    let path = state.join("file");
    fs::write(&path, bytes).expect("the file is written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("its mode is set");
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(state.join("file.gz")).expect("a file"))
        .spawn()
        .expect("gzip runs");
    gzip.stdin.take().expect("a pipe").write_all(bytes).expect("gzip reads");
    assert!(gzip.wait().expect("gzip ends").success());
}

fn serve(bytes: &[u8]) -> Server {
    serve_with(Conf::serving("files.wsgi"), bytes)
}

fn sendfile(bytes: &[u8]) -> Server {
    serve_with(Conf::serving("files.wsgi").and("WSGIEnableSendfile On"), bytes)
}

/// What `case` counted since the last look.
fn count(server: &Server, case: &str) -> String {
    server.get(case).text()
}

fn length(answer: &Response) -> Option<String> {
    answer.header("Content-Length")
}

const SIZES: [usize; 7] = [0, 1, 4096, 65_536, 65_537, 1 << 20, 5 << 20];

#[test]
fn files_of_every_size_are_sent_without_python() {
    for kind in [serve, sendfile] {
        let server = kind(b"");
        let mut client = server.client();
        for size in SIZES {
            put(&server.path("state"), &pattern(size));
            for case in ["/plain", "/raw", "/watched", "/subclass"] {
                let answer = client.send(&Request::get(case));
                answer.carries(&pattern(size));
                assert_eq!(length(&answer), Some(size.to_string()), "{case}");
            }
            assert_eq!(count(&server, "/iterations"), "0");
            assert_eq!(count(&server, "/closings"), "2", "each was closed");
        }
    }
}

#[test]
fn a_file_is_sent_from_where_it_stands_and_no_further_than_its_length() {
    for kind in [serve, sendfile] {
        let bytes = pattern(100_000);
        let server = kind(&bytes);
        let mut client = server.client();
        let mut ask = |query: &str| client.send(&Request::get(&format!("/watched?{query}")));
        let answer = ask("seek=2");
        answer.carries(&bytes[2..]);
        assert_eq!(length(&answer).as_deref(), Some("99998"));
        ask("seek=2&length=4").carries(&bytes[2..6]);
        ask("seek=70000&length=20000").carries(&bytes[70_000..90_000]);
        ask("length=0").carries(b"");
        ask("seek=100000").carries(b"");
        ask("seek=200000").carries(b"");
        ask("").carries(&bytes);
        assert_eq!(count(&server, "/iterations"), "0");
        // A part that was asked for is no mistake.
        assert!(server.log().lines_with(&["MNF0022"]).is_empty());
    }
}

#[test]
fn a_file_that_is_shorter_than_the_length_breaks_off() {
    for kind in [serve, sendfile] {
        let server = kind(&pattern(10_000));
        let answer = server.client().send(&Request::get("/watched?length=20000"));
        assert_eq!((answer.whole, answer.body.len()), (false, 10_000));
        server.log().wait_for(&["10000 bytes short"]);
        assert_eq!(count(&server, "/closings"), "1");
    }
}

/// The client must not take the next response for the rest of this one.
#[test]
fn a_file_that_becomes_shorter_meanwhile_breaks_off() {
    for kind in [serve, sendfile] {
        for to in [0, 100, 70_000, 3_000_000] {
            let server = kind(&pattern(5 << 20));
            let mut stream = TcpStream::connect(server.address()).expect("httpd accepts");
            stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
            let request = format!("GET /shrinks?to={to} HTTP/1.1\r\nHost: x\r\n\r\n");
            let next = "GET /iterations HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(format!("{request}{next}").as_bytes()).expect("httpd reads");
            let mut came = Vec::new();
            if let Err(error) = stream.read_to_end(&mut came) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
            let heads = came.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count();
            assert!(heads <= 1, "{to}: the next response follows");
            let body =
                came.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
            assert!(came[body..] == pattern(came.len() - body) && came.len() - body <= to, "{to}");
            assert_eq!(count(&server, "/iterations"), "0");
        }
    }
}

#[test]
fn a_file_that_becomes_shorter_breaks_off_behind_a_filter_too() {
    // What hardly can be compressed is sent while the rest is read; a page of zeros is not.
    let noise = |size| {
        let mut state = 1_u32;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(size)
        .collect::<Vec<_>>()
    };
    for (bytes, status) in [(noise(5 << 20), 200), (vec![0; 5 << 20], 500)] {
        let conf = Conf::serving("files.wsgi").with("filter").with("deflate");
        let server = serve_with(conf.and("SetOutputFilter DEFLATE"), &bytes);
        let request = Request::get("/shrinks?to=3000000").header("Accept-Encoding", "gzip");
        let answer = server.client().send(&request);
        assert_eq!((answer.status, answer.whole), (status, status == 500));
        server.log().wait_for(&["became shorter while it was sent"]);
    }
}

#[test]
fn an_output_filter_gets_the_whole_file() {
    for on_off in ["On", "Off"] {
        let conf = Conf::serving("files.wsgi")
            .with("filter")
            .with("deflate")
            .and(&format!("SetOutputFilter DEFLATE\nWSGIEnableSendfile {on_off}"));
        let server = serve_with(conf, &pattern(1 << 20));
        let answer = server.send(&Request::get("/plain").header("Accept-Encoding", "gzip"));
        assert_eq!(answer.header("Content-Encoding").as_deref(), Some("gzip"));
        assert!(answer.whole);
        assert_eq!(unzipped(&answer.body), pattern(1 << 20));
    }
}

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    let gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut gzip = gzip.expect("gzip runs");
    let mut input = gzip.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes).expect("gzip reads"));
    let output = gzip.wait_with_output().expect("gzip ends");
    writer.join().expect("the writer ends");
    output.stdout
}

#[test]
fn requests_may_share_an_open_file() {
    for kind in [serve, sendfile] {
        let bytes = pattern(3 << 20);
        let server = kind(&bytes);
        for answer in at_once(6, |_| server.get("/shared?seek=5")) {
            answer.carries(&bytes[5..]);
        }
        server.get("/position").expect(200, "5");
        assert_eq!(count(&server, "/closings"), "6");
    }
}

#[test]
fn a_file_without_a_name_is_sent_too() {
    for kind in [serve, sendfile] {
        let server = kind(&pattern(200_000));
        for case in ["/temporary", "/named"] {
            server.get(case).carries(&pattern(200_000));
        }
        server.get("/unflushed").expect(200, "bc3456789");
    }
}

#[test]
fn what_is_no_regular_file_is_iterated() {
    let bytes = pattern(100_000);
    let server = serve(&bytes);
    for case in ["/bytesio", "/pipe", "/gzip", "/buffered-gzip", "/no-tell", "/generator"] {
        let answer = server.get(case);
        answer.carries(&bytes);
        assert_eq!(length(&answer), None, "{case}");
    }
    let turned: Vec<_> = bytes.iter().map(|byte| 255 - byte).collect();
    server.get("/rot").carries(&turned);
    server.get("/upper").carries(&bytes.to_ascii_uppercase());
    server.get("/writes").carries(&[b"written,", &bytes[..]].concat());
    // read() of a text file returns no bytes.
    assert_eq!(server.get("/text").status, 500);
    server.log().wait_for(&["TypeError", "must return bytes"]);
}

#[test]
fn head_and_statuses_without_a_body_send_none() {
    for kind in [serve, sendfile] {
        let server = kind(&pattern(100_000));
        let mut client = server.client();
        let answer = client.send(&Request::new("HEAD", "/plain"));
        assert_eq!((answer.status, length(&answer).as_deref()), (200, Some("100000")));
        let answer = client.send(&Request::get("/plain?status=304"));
        assert_eq!((answer.status, length(&answer)), (304, None));
        assert_eq!(client.send(&Request::get("/plain?status=204")).status, 204);
        // A byte of a body would be taken for the beginning of this answer.
        client.send(&Request::get("/plain")).carries(&pattern(100_000));
    }
}

#[test]
fn parts_of_a_file_may_be_asked_for() {
    for kind in [serve, sendfile] {
        let bytes = pattern(100_000);
        let server = kind(&bytes);
        let mut client = server.client();
        for (range, wanted) in
            [("0-99", &bytes[..100]), ("70000-", &bytes[70_000..]), ("-10", &bytes[99_990..])]
        {
            let answer =
                client.send(&Request::get("/plain").header("Range", &format!("bytes={range}")));
            assert_eq!((answer.status, answer.whole), (206, true), "{range}");
            assert!(answer.body == wanted, "{range}");
        }
    }
}

#[test]
fn a_slow_client_holds_no_interpreter_thread() {
    // One interpreter thread, and a client that does not read what it asked for.
    let conf = Conf::serving("files.wsgi").and("WSGIInterpreterThreads 1");
    let server = serve_with(conf, &pattern(20 << 20));
    let mut slow = server.client();
    slow.send_head(&Request::get("/plain"));
    assert_eq!(slow.read_head().status, 200);
    server.get("/closings").expect(200, "0");
    assert_eq!(slow.read_bytes(20 << 20), pattern(20 << 20));
}

#[test]
fn what_goes_wrong_is_what_goes_wrong_elsewhere() {
    let server = serve(&pattern(1000));
    assert_eq!(server.get("/never-starts").status, 500);
    server.log().wait_for(&["RuntimeError"]);
    assert_eq!(count(&server, "/closings"), "1");
    server.get("/close-raises").carries(&pattern(1000));
    server.log().wait_for(&["ZeroDivisionError"]);
}
