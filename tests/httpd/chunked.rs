//! Request bodies in chunks, with WSGIChunkedRequest.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::{Conf, PATIENCE, Request, Server, pattern};

fn serve() -> Server {
    Server::start(Conf::serving("chunks.wsgi").and("WSGIChunkedRequest On"))
}

/// A body in chunks of `size` bytes.
fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(size) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

fn head(target: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

/// All that comes for these bytes and the end of our side.
fn everything(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("httpd accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    if stream.write_all(bytes).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap_or_default()).collect()
}

#[test]
fn a_body_of_any_size_is_read_to_its_end_and_the_connection_kept() {
    let server = serve();
    let mut client = server.client();
    for (size, chunk) in [(0, 1), (1, 1), (1000, 7), (70_000, 1000), (1 << 20, 65_536)] {
        client.write(&head("/"));
        client.write(&chunks(&pattern(size), chunk));
        client.read("POST").carries(&pattern(size));
    }
    client.send(&Request::post("/", b"with a length")).expect(200, "with a length");
}

#[test]
fn the_application_is_told_no_length_and_that_the_input_ends() {
    let server = serve();
    let mut client = server.client();
    client.write(&head("/facts"));
    client.write(b"3;extension=1\r\nabc\r\n02\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n");
    let answer = client.read("POST");
    for (key, value) in [
        ("CONTENT_LENGTH", "None"),
        ("HTTP_TRANSFER_ENCODING", "'chunked'"),
        ("wsgi.input_terminated", "True"),
        ("read", "b'abcde'"),
        ("again", "b''"),
    ] {
        assert_eq!(answer.fact(key), value, "{key}");
    }
    client.write(&head("/lines"));
    client.write(b"4\r\none\n\r\n3\r\ntwo\r\n5\r\n\nfour\r\n0\r\n\r\n");
    client.read("POST").expect(200, "one\n|two\n|four");
}

#[test]
fn blocks_arrive_while_the_client_still_sends() {
    let server = serve();
    let mut client = server.client();
    client.write(&head("/streams"));
    client.write(b"3e8\r\n");
    client.write(&[b'a'; 1000]);
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_bytes(1005), [&b"3e8\r\n"[..], &[b'a'; 1000]].concat());
    client.write(b"\r\n1\r\nb\r\n0\r\n\r\n");
    assert_eq!(client.read_bytes(13), b"\r\n1\r\nb\r\n0\r\n\r\n"[..13]);
}

#[test]
fn a_body_that_nobody_reads_does_not_spoil_the_next_request() {
    let server = serve();
    let mut client = server.client();
    client.write(&head("/never"));
    client.write(&chunks(&pattern(100_000), 999));
    client.read("POST").expect(200, "not read");
    client.send(&Request::post("/", b"next")).expect(200, "next");
}

#[test]
fn the_limit_of_a_body_counts_chunks_too() {
    let server = Server::start(
        Conf::serving("chunks.wsgi").and("WSGIChunkedRequest On\nLimitRequestBody 1000"),
    );
    let sent = |size| [head("/"), chunks(&pattern(size), 100)].concat();
    assert_eq!(statuses(&everything(&server, &sent(1000))), ["200"]);
    assert_eq!(statuses(&everything(&server, &sent(1001))), ["413"]);
    assert_eq!(statuses(&everything(&server, &sent(200_000))), ["413"]);
}

const SMUGGLED: &str = "GET /facts HTTP/1.1\r\nHost: x\r\n\r\n";

fn bad_bodies() -> Vec<String> {
    let mut bodies: Vec<_> = [
        "zz\r\n",
        "-5\r\nabcde\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc",
        "8000000000000000\r\nabc",
        "ffffffffffffffffffffffff\r\nabc",
        "3 3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        ";\r\n",
        ";a=b\r\n",
        "\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\r\n0\r\n\r\n",
        "3,\r\nabc\r\n0\r\n\r\n",
        "3\0\r\nabc\r\n0\r\n\r\n",
        "0\r\nno colon\r\n\r\n",
        "3\r\nabc\r\n0\r\nX Y: 1\r\n\r\n",
    ]
    .map(|body| format!("{body}{SMUGGLED}"))
    .into();
    // These end too early.
    bodies.extend(
        ["", "3", "3\r\n", "3\r\nab", "3\r\nabc\r\n", "3\r\nabc\r\n0\r\n"].map(str::to_owned),
    );
    bodies.push(format!("3;{}\r\nabc\r\n0\r\n\r\n{SMUGGLED}", "x".repeat(20_000)));
    bodies
}

#[test]
fn a_bad_chunk_is_a_400_once_and_the_next_connection_is_served() {
    let server = serve();
    let child = server.only_child();
    // Whatever the application makes of it, httpd's answer is the only one.
    for target in ["/", "/catches", "/facts"] {
        for body in bad_bodies() {
            let text = everything(&server, &[head(target), body.clone().into_bytes()].concat());
            let shown = &body[..body.len().min(40)];
            match statuses(&text)[..] {
                ["400"] => {}
                // What is too large a number for httpd, or too long, is too large a body.
                ["413"] if body.starts_with(['f', '8']) || body.starts_with("3;x") => {}
                // An application that catches it may answer, where httpd has not.
                ["200"] if target == "/catches" => assert!(text.contains("caught"), "{text}"),
                _ => panic!("{target} {shown:?}: {text}"),
            }
            assert_eq!(text.contains("HTTP/1.1 200"), text.contains("caught"), "{text}");
        }
        server.send(&Request::post("/", b"fine")).expect(200, "fine");
    }
    assert_eq!(server.only_child(), child);
}

#[test]
fn a_bad_chunk_while_the_response_is_under_way_ends_it() {
    let server = serve();
    let good = chunks(&pattern(5000), 1000);
    let good = &good[..good.len() - 5];
    for body in bad_bodies() {
        let text = everything(&server, &[&head("/streams")[..], good, body.as_bytes()].concat());
        assert_eq!(statuses(&text), ["200"], "{body:?}: {text}");
        // The smuggled request's answer would have these facts.
        assert!(!text.contains("input_terminated"), "{body:?}: {text}");
    }
    server.send(&Request::post("/", b"fine")).expect(200, "fine");
}

#[test]
fn other_codings_and_a_length_besides() {
    let server = serve();
    let with = |headers: &str| {
        let head = format!("POST /facts HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
        everything(
            &server,
            &[head.as_bytes(), b"3\r\nabc\r\n0\r\n\r\n", SMUGGLED.as_bytes()].concat(),
        )
    };
    assert_eq!(statuses(&with("Transfer-Encoding: gzip, chunked")), ["501"]);
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        // httpd does not believe the length, and does not use the connection again.
        let text = with(headers);
        assert_eq!(statuses(&text), ["200"], "{text}");
        assert!(text.contains("read\tb'abc'") && text.contains("CONTENT_LENGTH\tNone"), "{text}");
    }
}

#[test]
fn the_directive_belongs_to_its_section() {
    let server = Server::start(
        Conf::serving("chunks.wsgi")
            .and("<Location /on>\nWSGIChunkedRequest On\n</Location>")
            .and("<Location /on/off>\nWSGIChunkedRequest Off\n</Location>"),
    );
    for (target, status) in [("/on", "200"), ("/on/off", "411"), ("/", "411")] {
        let text = everything(&server, &[head(target), chunks(b"abc", 2)].concat());
        assert_eq!(statuses(&text), [status], "{target}");
    }
}
