//! `wsgi.input`: the ways to read it, and its ends.

use crate::harness::{Request, Response, Server};

/// `calls` performed on `body`, as what each call returned.
#[track_caller]
fn reading(server: &Server, body: &[u8], calls: &str, returned: &[&str]) {
    let answer = server.send(&Request::post(&format!("/?{calls}"), body));
    assert_eq!(results(&answer), returned, "{calls}");
}

fn results(answer: &Response) -> Vec<String> {
    let text = answer.text();
    let results = text.lines().map(|line| line.split_once('\t').unwrap_or(("", line)).1);
    results.map(str::to_owned).collect()
}

#[test]
fn calls_of_every_kind_share_one_position() {
    let server = Server::serving("input.wsgi");
    let body = b"abcdef\nline2\nline3";
    for (calls, returned) in [
        ("read", &["b'abcdef\\nline2\\nline3'"][..]),
        (
            "read=3&readline&readlines&read&read=5",
            &["b'abc'", "b'def\\n'", "[b'line2\\n', b'line3']", "b''", "b''"],
        ),
        ("read=0&read=-1&read", &["b''", "b'abcdef\\nline2\\nline3'", "b''"]),
        ("readline=3&readline=100&readline=-1", &["b'abc'", "b'def\\n'", "b'line2\\n'"]),
        (
            "readline=0&readline&readline&readline&readline",
            &["b''", "b'abcdef\\n'", "b'line2\\n'", "b'line3'", "b''"],
        ),
        ("iterate&iterate", &["[b'abcdef\\n', b'line2\\n', b'line3']", "[]"]),
        (
            "next&read=2&iterate&next",
            &["b'abcdef\\n'", "b'li'", "[b'ne2\\n', b'line3']", "'the end'"],
        ),
        ("readlines=1&readlines&readlines", &["[b'abcdef\\n']", "[b'line2\\n', b'line3']", "[]"]),
        ("read=7&read=100", &["b'abcdef\\n'", "b'line2\\nline3'"]),
        ("close&read=6", &["None", "b'abcdef'"]),
    ] {
        reading(&server, body, calls, returned);
    }
}

#[test]
fn a_request_without_a_body_reads_as_empty() {
    let server = Server::serving("input.wsgi");
    let answer = server.get("/?read&read=5&readline&readlines&iterate&next");
    assert_eq!(results(&answer), ["b''", "b''", "b''", "[]", "[]", "'the end'"]);
    reading(&server, b"", "read&readline&readlines", &["b''", "b''", "[]"]);
}

#[test]
fn lines_of_every_shape_are_told_apart() {
    let server = Server::serving("input.wsgi");
    reading(&server, b"\n\n\r\nx\r", "iterate", &["[b'\\n', b'\\n', b'\\r\\n', b'x\\r']"]);
    reading(&server, b"no end", "readline&readline", &["b'no end'", "b''"]);
    reading(&server, b"\x00\xff\n\xfe", "readlines", &["[b'\\x00\\xff\\n', b'\\xfe']"]);
}

#[test]
fn a_line_may_be_longer_than_any_buffer() {
    let server = Server::serving("input.wsgi");
    let mut body = vec![b'x'; 1 << 20];
    body.extend_from_slice(b"\nrest");
    let answer = server.send(&Request::post("/?readline&read", &body));
    let results = results(&answer);
    assert_eq!(results[0].len(), (1 << 20) + "b'\\n'".len());
    assert_eq!(results[1], "b'rest'");
}

#[test]
fn a_read_of_some_size_waits_for_all_of_it() {
    let server = Server::serving("input.wsgi");
    let mut client = server.client();
    client.send_head(&Request::new("POST", "/?read=6&read=6").header("Content-Length", "9"));
    // Three pieces, each on the wire before the next is written.
    for piece in [b"abc", b"def", b"ghi"] {
        client.write(piece);
        std::thread::yield_now();
    }
    assert_eq!(results(&client.read("POST")), ["b'abcdef'", "b'ghi'"]);
}

#[test]
fn input_that_was_kept_cannot_be_read_after_its_request() {
    let server = Server::serving("input.wsgi");
    assert_eq!(server.send(&Request::post("/later", b"abc")).status, 200);
    let answer = server.get("/use-later?read&read=1&readline&readlines&iterate");
    assert_eq!(results(&answer), ["RuntimeError"; 5]);
}
