//! Bodies of every size in both directions, their framing, and what follows on the connection.

use crate::harness::{Client, Conf, Request, Server, eventually, pattern, resident};

const SIZES: [usize; 6] = [0, 1, 16 << 10, 65_537, 1 << 20, 5 << 20];

#[test]
fn request_bodies_of_every_size_arrive_whole() {
    let server = Server::serving("echo.wsgi");
    for size in SIZES {
        for url in ["/whole", "/pieces"] {
            server.send(&Request::post(url, &pattern(size))).carries(&pattern(size));
        }
    }
}

#[test]
fn responses_of_every_size_arrive_whole() {
    let server = Server::serving("sized.wsgi");
    for size in SIZES {
        server.get(&format!("/?size={size}")).carries(&pattern(size));
        server.get(&format!("/?size={size}&length={size}")).carries(&pattern(size));
    }
}

#[test]
fn a_large_response_takes_no_memory_once_it_was_sent() {
    let server = Server::serving("sized.wsgi");
    let size = 64 << 20;
    for url in [format!("/?size={size}"), format!("/?size={size}&block={}", 1 << 20)] {
        assert_eq!(server.get("/?size=1").status, 200);
        let process = server.only_child();
        let before = resident(process);
        server.get(&url).carries(&pattern(size));
        // Nobody asks for anything more.
        eventually("its memory is given back", || {
            (resident(process) < before + (32 << 10)).then_some(())
        });
    }
}

#[test]
fn responses_in_blocks_of_every_size_arrive_whole() {
    let server = Server::serving("sized.wsgi");
    const MIB: usize = 1 << 20;
    for (size, block) in
        [(1000, 1), (16 << 10, 100), (MIB, 8191), (5 * MIB, 65_536), (5 * MIB, MIB)]
    {
        server.get(&format!("/?size={size}&block={block}")).carries(&pattern(size));
    }
}

#[test]
fn a_response_of_unknown_length_is_chunked_and_the_connection_kept() {
    let server = Server::serving("sized.wsgi");
    let mut client = server.client();
    for _ in 0..3 {
        let answer = client.send(&Request::get("/?size=50000&block=10000"));
        assert_eq!(answer.header("Transfer-Encoding").as_deref(), Some("chunked"));
        assert_eq!(answer.header("Content-Length"), None);
        answer.carries(&pattern(50_000));
    }
}

#[test]
fn a_response_of_unknown_length_ends_with_the_connection_in_http_1_0() {
    let server = Server::serving("sized.wsgi");
    let answer = server.client().send(&Request::get("/?size=50000&block=10000").http_1_0());
    assert_eq!(answer.header("Transfer-Encoding"), None);
    answer.carries(&pattern(50_000));
}

#[test]
fn a_known_length_is_passed_on_and_the_connection_kept() {
    let server = Server::serving("sized.wsgi");
    let mut client = server.client();
    for size in [0, 1, 50_000] {
        let answer = client.send(&Request::get(&format!("/?size={size}&length={size}&block=999")));
        assert_eq!(answer.header("Content-Length"), Some(size.to_string()));
        answer.carries(&pattern(size));
    }
}

#[test]
fn each_block_is_sent_before_the_next_is_made() {
    let server = Server::serving("waiting.wsgi");
    let gate = server.gate("gate");
    let mut client = server.client();
    client.send_head(&Request::get("/half").header("Connection", "close").http_1_0());
    assert_eq!(client.read_head().status, 200);
    // The application stands at the gate now, or will; the first block is here all the same.
    assert_eq!(client.read_bytes(6), b"first,");
    gate.open();
    assert_eq!(client.read_bytes(6), b"second");
}

#[test]
fn head_has_the_headers_without_the_body() {
    let server = Server::serving("sized.wsgi");
    let mut client = server.client();
    let answer = client.send(&Request::new("HEAD", "/?size=5000&length=5000"));
    assert_eq!((answer.status, answer.header("Content-Length").as_deref()), (200, Some("5000")));
    assert_eq!(client.send(&Request::new("HEAD", "/?size=5000&block=100")).status, 200);
    // A byte of a body would be taken for the beginning of this answer.
    client.send(&Request::get("/?size=5000")).carries(&pattern(5000));
}

#[test]
fn requests_on_one_connection_do_not_mix_their_bodies() {
    let server = Server::serving("echo.wsgi");
    let mut client = server.client();
    for (i, size) in [0, 70_000, 3, 0, 200_000, 1].into_iter().enumerate() {
        let body: Vec<u8> = (0..size).map(|at| (at + i) as u8).collect();
        client.send(&Request::post("/whole", &body)).carries(&body);
    }
}

#[test]
fn a_body_nobody_reads_does_not_spoil_the_next_request() {
    let server = Server::serving("hello.wsgi");
    let mut client = server.client();
    for size in [10, 100_000] {
        client.send(&Request::post("/", &pattern(size))).expect(200, "Hello, world!\n");
        client.send(&Request::get("/")).expect(200, "Hello, world!\n");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::serving("sized.wsgi");
    let mut client = server.client();
    let sizes = [3, 20_000, 0, 7];
    for size in sizes {
        client.send_head(&Request::get(&format!("/?size={size}")));
    }
    for size in sizes {
        client.read("GET").carries(&pattern(size));
    }
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    let server = Server::serving("sized.wsgi");
    let mut client = server.client();
    client.send_head(&Request::get("/?size=300000&block=1000").header("Connection", "close"));
    client.half_close();
    client.read("GET").carries(&pattern(300_000));
}

#[test]
fn continue_is_sent_when_the_application_reads() {
    let server = Server::serving("input.wsgi");
    let expecting = |url: &str| {
        let request = Request::new("POST", url).header("Content-Length", "3");
        let mut client = server.client();
        client.send_head(&request.header("Expect", "100-continue"));
        client
    };
    let mut reading: Client = expecting("/?read");
    assert_eq!(reading.read_head().status, 100);
    reading.write(b"abc");
    reading.read("POST").expect(200, "read\tb'abc'\n");
    // Who does not read does not ask the client for what it holds back.
    assert_eq!(expecting("/never").read_head().status, 200);
}

#[test]
fn chunked_request_bodies_and_other_codings_are_refused() {
    let server = Server::serving("echo.wsgi");
    for (coding, status) in [("chunked", 411), ("gzip, chunked", 501)] {
        let mut client = server.client();
        let request = Request::new("POST", "/").header("Transfer-Encoding", coding);
        client.send_head(&request.header("Connection", "close"));
        client.write(b"3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(client.read("POST").status, status, "{coding}");
    }
    assert_eq!(server.send(&Request::post("/", b"abc")).body, b"abc");
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let server = Server::start(Conf::serving("echo.wsgi").and("LimitRequestBody 1000"));
    assert_eq!(server.send(&Request::post("/whole", &pattern(1001))).status, 413);
    assert_eq!(server.send(&Request::post("/whole", &pattern(1000))).status, 200);
}

#[test]
fn output_filters_see_the_response() {
    let server = Server::start(
        Conf::serving("sized.wsgi").with("filter").with("deflate").and("SetOutputFilter DEFLATE"),
    );
    let answer =
        server.send(&Request::get("/?size=50000&block=5000").header("Accept-Encoding", "gzip"));
    assert_eq!(answer.header("Content-Encoding").as_deref(), Some("gzip"));
    assert!(answer.whole && answer.body.starts_with(&[0x1f, 0x8b]) && answer.body.len() < 50_000);
}
