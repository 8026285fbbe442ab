//! Headers about the connection, from an application: what an application says is done or passed
//! on, or it is refused; never both said to the client and not done.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Conf, PATIENCE, Request, Response, Server};

/// A connection that is kept is kept longer than any test is patient.
fn conf() -> Conf {
    Conf::serving("headers.wsgi").and("KeepAliveTimeout 300")
}

/// Asks without asking for the end of the connection, and reads until httpd ends it.
#[track_caller]
fn until_closed(server: &Server, request: &Request) -> String {
    let mut stream = TcpStream::connect(server.address()).expect("httpd accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    stream.write_all(&request.head("x")).expect("httpd takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("httpd closes the connection by itself");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0123456789"), "{answer}");
    answer
}

/// The items of the Connection lines, of which there may be one.
fn connection_items(answer: &str) -> Vec<&str> {
    let named = |line: &&str| line.to_ascii_lowercase().starts_with("connection:");
    let lines: Vec<_> = answer.lines().filter(named).collect();
    assert_eq!(lines.len(), 1, "{answer}");
    lines[0]["connection:".len()..].split(',').map(str::trim).collect()
}

/// The connection carries a whole answer, and is kept.
#[track_caller]
fn kept(server: &Server, request: &Request) -> Response {
    let mut client = server.client();
    let answer = client.send(request);
    assert_eq!((answer.text().as_str(), answer.whole), ("0123456789", true), "{answer:?}");
    // A byte too many would be taken for the beginning of this answer.
    client.send(&Request::get("/")).expect(200, "0123456789");
    answer
}

/// 500, the code's line, the reason and the header in a line, and the same child goes on.
#[track_caller]
fn refused(server: &Server, query: &str, words: &[&str]) {
    let child = server.only_child();
    let mut client = server.client();
    let answer = client.send(&Request::get(query));
    assert_eq!((answer.status, answer.whole), (500, true), "{query}: {answer:?}");
    server.log().wait_for(&[
        ":error]",
        "MNF0007",
        "ValueError",
        "headers.wsgi",
        "'app'",
        "[client ",
    ]);
    server.log().wait_for(&[&[":error]", "ValueError: ", "[client "], words].concat());
    server.get("/").expect(200, "0123456789");
    assert_eq!(server.children(), [child]);
}

#[test]
fn connection_close_closes_wherever_it_is_said() {
    let server = Server::start(conf());
    for (query, items) in [
        ("Connection=close", &["close"][..]),
        ("connection=Close", &["Close"]),
        ("Connection=X-A,close", &["X-A", "close"]),
        ("Connection=X-A&Connection=close", &["X-A", "close"]),
        ("Connection=keep-alive&Connection=close", &["keep-alive", "close"]),
    ] {
        let answer = until_closed(&server, &Request::get(&format!("/?{query}")));
        assert_eq!(connection_items(&answer), items, "{query}");
    }
}

/// With another protocol to offer, httpd has a Connection header of its own.
#[test]
fn connection_close_closes_besides_httpds_own_offer() {
    let server = Server::start(conf().with("http2").and("Protocols h2c http/1.1"));
    let answer = until_closed(&server, &Request::get("/?Connection=close"));
    assert_eq!(connection_items(&answer), ["Upgrade", "close"]);
    assert!(answer.contains("Upgrade: h2c\r\n"), "{answer}");
}

#[test]
fn a_client_that_wants_an_end_gets_it_whatever_the_application_says() {
    let server = Server::start(conf());
    let get = || Request::get("/?Connection=keep-alive&Keep-Alive=timeout%3D600");
    for request in [get().header("Connection", "close"), get().http_1_0()] {
        assert_eq!(connection_items(&until_closed(&server, &request)), ["keep-alive", "close"]);
    }
}

#[test]
fn other_headers_about_the_connection_arrive_as_they_were_said() {
    let server = Server::start(conf());
    for (name, value) in [
        ("Connection", "keep-alive"),
        ("Connection", "X-A"),
        ("Connection", "Transfer-Encoding"),
        ("Keep-Alive", "timeout=600"),
        ("Upgrade", "h2c"),
        ("Trailer", "X-After"),
        ("TE", "gzip"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy-Connection", "close"),
    ] {
        for more in ["", "&stream=", "&status=407+No", "&status=426+Upgrade+Required"] {
            let answer =
                kept(&server, &Request::get(&format!("/?{name}={value}{more}").replace(' ', "+")));
            assert_eq!(answer.all(name), [value], "{more}");
        }
    }
    assert!(server.log().lines_with(&["MNF"]).is_empty());
}

#[test]
fn what_is_offered_as_an_upgrade_is_not_done_by_itself() {
    let server = Server::start(conf());
    let ask = Request::get("/?Upgrade=websocket&Connection=Upgrade")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    let answer = kept(&server, &ask);
    assert_eq!((answer.status, answer.header("Upgrade").as_deref()), (200, Some("websocket")));
}

/// How long it keeps a connection is httpd's to say.
#[test]
fn a_client_that_asks_for_keep_alive_gets_httpds_own_timeout() {
    let server = Server::start(conf());
    let ask = Request::get("/?Keep-Alive=timeout%3D600&Connection=keep-alive")
        .header("Connection", "keep-alive");
    let answer = kept(&server, &ask);
    assert_eq!(answer.header("Keep-Alive").as_deref(), Some("timeout=300"));
    assert_eq!(answer.header("Connection").as_deref(), Some("keep-alive, Keep-Alive"));
}

#[test]
fn naming_content_length_in_connection_is_refused() {
    let server = Server::start(conf());
    for value in ["Content-Length", "close,content-length", "X-A,+Content-LENGTH+,X-B"] {
        let words = ["Connection must not name Content-Length", "got \"Connection\""];
        refused(&server, &format!("/?Connection={value}"), &words);
    }
    kept(&server, &Request::get("/?Connection=X-Content-Length"));
}

/// The status of a `GET` over HTTP/2, for those that HPACK has a number for.
fn status_over_http2(server: &Server, target: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address()).expect("httpd accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        [&[length.expect("a short text")], text.as_bytes()].concat()
    };
    // :method GET and :scheme http by number, then :path and :authority in full.
    let fields = [&[0x82, 0x86, 0x04], &text(target)[..], &[0x01], &text("x")].concat();
    let (settings, headers) = (frame(4, 0, 0, &[]), frame(1, 0x05, 1, &fields));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let sent = stream.write_all(&[&preface[..], &settings, &headers].concat());
    sent.expect("httpd takes a request");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).expect("the whole frame");
        match head[3] {
            1 => match payload[0] {
                0x88 => return 200,
                0x8e => return 500,
                other => panic!("neither 200 nor 500: {other:#x}"),
            },
            3 | 7 => panic!("the stream was reset: {payload:?}"),
            _ => {}
        }
    }
}

#[test]
fn over_http2_what_clients_take_for_malformed_is_refused() {
    let server = Server::start(conf().with("http2").and("Protocols h2c http/1.1"));
    let child = server.only_child();
    for name in ["Connection", "Keep-Alive", "Upgrade", "Trailer", "Proxy-Authenticate"] {
        assert_eq!(status_over_http2(&server, &format!("/?{name}=close")), 200, "{name}");
    }
    assert_eq!(status_over_http2(&server, "/?TE=trailers"), 200);
    for (query, name) in [("TE=gzip", "TE"), ("proxy-connection=close", "proxy-connection")] {
        assert_eq!(status_over_http2(&server, &format!("/?{query}")), 500, "{query}");
        let got = format!("got \"{name}\"");
        server.log().wait_for(&[":error]", "ValueError: over HTTP/2", &got]);
    }
    assert_eq!(status_over_http2(&server, "/"), 200);
    assert_eq!(server.children(), [child]);
}
