//! Clients that stop reading in the middle of a large response: what they hold meanwhile, and what
//! they get when they read on.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{Client, Conf, Request, Server, eventually, pattern, test_python, write};
use crate::tls;

const SIZE: usize = 8 << 20;

/// What a client has read when it stops.
const READ: usize = 50_000;

/// The ways in which `large.wsgi` makes the body of 8 MiB.
const WAYS: [&str; 5] = ["/list", "/iterator", "/blocks", "/written", "/mixed"];

/// `large.wsgi`, whose responses do not fit into the buffers between httpd and its client.
fn conf(more: &str) -> Conf {
    Conf::serving("large.wsgi").and("SendBufferSize 65536").and(more)
}

fn serve(more: &str) -> Server {
    Server::start(conf(more))
}

/// A client that has read the head and the first bytes of a response, and then stops.
fn stalled(server: &Server, request: &Request) -> (Client, Vec<u8>) {
    let mut client = server.narrow_client();
    client.send_head(request);
    assert_eq!(client.read_head().status, 200);
    let read = client.read_bytes(READ);
    (client, read)
}

fn with_length(way: &str) -> Request {
    Request::get(&format!("{way}?length={SIZE}"))
}

/// Reads the rest of a body of which the Content-Length was told.
#[track_caller]
fn reads_on((client, mut read): (&mut Client, Vec<u8>)) {
    read.extend(client.read_bytes(SIZE - READ));
    assert!(read == pattern(SIZE), "another body came");
}

/// The lengths of the bodies that are kept for clients, in files of memory.
fn bodies_kept(server: &Server) -> Vec<u64> {
    let descriptors = server.descriptors().into_iter();
    let bodies = descriptors.filter(|it| it.target.to_string_lossy().contains("wsgi-response"));
    bodies.map(|it| it.length).collect()
}

/// How many there are.
fn kept(server: &Server) -> usize {
    bodies_kept(server).len()
}

/// How many bytes there are in them.
fn bytes_kept(server: &Server) -> u64 {
    bodies_kept(server).iter().sum()
}

#[track_caller]
fn keeps(server: &Server, count: usize) {
    eventually(&format!("{count} bodies are kept"), || (kept(server) == count).then_some(()));
}

#[track_caller]
fn says_hello(server: &Server, times: usize) {
    for _ in 0..times {
        server.get("/hello").expect(200, "hello");
    }
}

#[test]
fn thirty_stalled_clients_leave_all_of_twenty_five_threads_free() {
    let server = Server::start(conf("").threads(25));
    let child = server.only_child();
    let mut clients: Vec<_> =
        (0..30).map(|i| stalled(&server, &with_length(WAYS[i % WAYS.len()]))).collect();
    keeps(&server, 30);
    says_hello(&server, 100);
    for (client, read) in &mut clients {
        reads_on((client, std::mem::take(read)));
        // The connection is as good as before.
        client.send(&Request::get("/hello")).expect(200, "hello");
    }
    keeps(&server, 0);
    assert_eq!(server.only_child(), child);
    server.stop();
}

#[test]
fn filters_that_only_look_at_headers_make_no_difference() {
    // As Debian has it: compressed by type, and clients that are slow with their requests sent away.
    let conf = conf(
        "AddOutputFilterByType DEFLATE text/html text/plain\nRequestReadTimeout header=20\n\
         Header set X-Said yes\nExpiresActive On\nExpiresDefault \"access plus 1 day\"\n\
         EnableSendfile Off",
    );
    let modules = ["filter", "deflate", "reqtimeout", "headers", "expires"];
    let server = Server::start(modules.into_iter().fold(conf, Conf::with));
    let compressing = |way| with_length(way).header("Accept-Encoding", "gzip");
    let mut clients: Vec<_> =
        (0..12).map(|i| stalled(&server, &compressing(WAYS[i % WAYS.len()]))).collect();
    keeps(&server, 12);
    says_hello(&server, 10);
    clients.iter_mut().for_each(|(client, read)| reads_on((client, std::mem::take(read))));
    keeps(&server, 0);
}

#[test]
fn a_thousand_responses_that_were_kept_leave_no_descriptor_behind() {
    let server = Server::start(conf("").threads(25));
    let mut clients: Vec<_> = (0..25).map(|_| server.narrow_client()).collect();
    let ask = |client: &mut Client| client.send_head(&Request::get("/list?size=1000000"));
    let whole = pattern(1_000_000);
    let mut before = None;
    for round in 0..40 {
        clients.iter_mut().for_each(ask);
        keeps(&server, 25);
        clients.iter_mut().for_each(|client| client.read("GET").carries(&whole));
        keeps(&server, 0);
        let now = server.descriptors().len();
        assert_eq!(*before.get_or_insert(now), now, "round {round}");
    }
}

/// A second response behind the first on the same connection, of which nothing is mixed up.
#[test]
fn requests_behind_each_other_are_answered_in_order() {
    let server = serve("");
    let targets = ["/list", "/hello", "/blocks?block=1000000", "/written?block=30000", "/hello"];
    let mut client = server.narrow_client();
    for target in targets {
        client.send_head(&Request::get(target));
    }
    keeps(&server, 1);
    for target in targets {
        let answer = client.read("GET");
        match target {
            "/hello" => answer.expect(200, "hello"),
            _ => answer.carries(&pattern(SIZE)),
        }
    }
    keeps(&server, 0);
}

/// The limit has room for eight bodies. Were something counted for longer than it is there, fewer
/// would be kept in the second round.
#[test]
fn what_clients_leave_behind_is_let_go_and_counted_no_more() {
    let server = Server::start(conf("WSGIResponseBufferLimit 70000000").threads(25));
    for round in 0..4 {
        let clients: Vec<_> = (0..8)
            .map(|i| stalled(&server, &with_length(WAYS[(i + round) % WAYS.len()])))
            .collect();
        keeps(&server, 8);
        drop(clients);
        keeps(&server, 0);
    }
    says_hello(&server, 3);
}

#[test]
fn beyond_the_limit_a_thread_waits_for_its_client() {
    for limit in ["0", "1000000"] {
        let server = serve(&format!("WSGIResponseBufferLimit {limit}"));
        let mut clients: Vec<_> =
            WAYS.iter().map(|way| stalled(&server, &with_length(way))).collect();
        says_hello(&server, 5);
        clients.iter_mut().for_each(|(client, read)| reads_on((client, std::mem::take(read))));
        keeps(&server, 0);
    }
}

#[test]
fn a_body_without_an_end_is_kept_up_to_its_share() {
    let server = serve("WSGIResponseBufferLimit 16000000");
    let (client, _) = stalled(&server, &Request::get("/endless"));
    // The application's thread waits when no block fits into its share of 2 MB any more. How much httpd's
    // thread has put aside by then, or waits with, is a matter of who is faster.
    eventually("it is kept", || (bytes_kept(&server) > 1_800_000).then_some(()));
    says_hello(&server, 20);
    let kept = bodies_kept(&server);
    assert!(kept.iter().all(|bytes| *bytes <= 2_000_000), "{kept:?}");
    assert!(kept.len() <= 3 && bytes_kept(&server) <= 6_000_000, "{kept:?}");
    drop(client);
    keeps(&server, 0);
    eventually("close() is called", || (server.get("/endings").text() == "1").then_some(()));
}

#[test]
fn the_only_thread_of_an_application_is_free_whoever_is_slow() {
    let slow = "WSGIInterpreterThreads 1\nSetOutputFilter SUBSTITUTE\nSubstitute s/absent/here/n";
    for conf in [conf("WSGIInterpreterThreads 1"), conf(slow).with("substitute")] {
        let server = Server::start(conf);
        let mut clients: Vec<_> =
            WAYS.iter().map(|way| stalled(&server, &Request::get(way))).collect();
        says_hello(&server, 5);
        for (client, _) in &mut clients {
            let mut rest = Vec::new();
            // What is left of a body in chunks: its end is what matters.
            while !rest.ends_with(b"\r\n0\r\n\r\n") {
                rest.extend(client.read_bytes(1));
            }
        }
        keeps(&server, 0);
    }
}

#[test]
fn a_line_that_is_logged_at_the_end_keeps_its_client() {
    let server = serve("");
    let mut client = stalled(&server, &Request::get("/log?length=8388608"));
    server.log().wait_for_count(&["the body has ended", "[client 127.0.0.1:"], 1);
    reads_on((&mut client.0, std::mem::take(&mut client.1)));
}

#[test]
fn a_content_length_is_kept_to_whoever_is_slow() {
    let server = serve("");
    for way in WAYS {
        let mut client = server.narrow_client();
        client.send(&Request::get(&format!("{way}?length=5000000"))).carries(&pattern(5_000_000));
        let answer = client.send(&Request::get(&format!("{way}?length=9000000")));
        assert!(!answer.whole && answer.body == pattern(SIZE), "{way}: {}", answer.body.len());
    }
    server.log().wait_for_count(&["MNF0022"], WAYS.len());
    server.log().wait_for_count(&["MNF0019"], WAYS.len());
    keeps(&server, 0);
}

#[test]
fn responses_without_a_body_have_none_however_large_it_would_be() {
    let server = serve("");
    for way in WAYS {
        let mut client = server.narrow_client();
        for (method, more) in
            [("HEAD", "length=8388608"), ("GET", "status=204"), ("GET", "status=304")]
        {
            let answer = client.send(&Request::new(method, &format!("{way}?{more}")));
            assert!(answer.body.is_empty());
            client.send(&Request::get("/hello")).expect(200, "hello");
        }
    }
    keeps(&server, 0);
}

#[test]
fn http_1_0_and_ranges_are_served() {
    let server = serve("");
    for way in WAYS {
        let mut client = server.narrow_client();
        client.send(&Request::get(way).http_1_0()).carries(&pattern(SIZE));
        let mut client = server.narrow_client();
        let ranges = "bytes=10-19,5000000-5000009";
        // httpd makes parts of what it has as a whole, which a large body never is.
        client.send(&Request::get(way).header("Range", ranges)).carries(&pattern(SIZE));
        let part = client.send(&Request::get("/list?size=1000").header("Range", "bytes=10-19"));
        assert_eq!((part.status, &part.body[..]), (206, &pattern(1000)[10..20]));
    }
}

#[test]
fn threads_of_worker_wait_for_their_clients() {
    let server = Server::start(conf("").on_worker());
    let mut clients: Vec<_> = WAYS.iter().map(|way| stalled(&server, &with_length(way))).collect();
    says_hello(&server, 5);
    clients.iter_mut().for_each(|(client, read)| reads_on((client, std::mem::take(read))));
    keeps(&server, 0);
}

#[test]
fn a_graceful_restart_lets_kept_bodies_arrive() {
    let server = serve("");
    let old = server.only_child();
    let mut clients: Vec<_> = WAYS.iter().map(|way| stalled(&server, &with_length(way))).collect();
    keeps(&server, WAYS.len());
    server.graceful();
    clients.iter_mut().for_each(|(client, read)| reads_on((client, std::mem::take(read))));
    drop(clients);
    eventually("the next child", || (!server.children().contains(&old)).then_some(()));
    says_hello(&server, 1);
}

/// Reads a little of a compressed body, waits for a line on its input, and reads the rest. What is in
/// it is what DEFLATE has to work on, and cannot make small.
const COMPRESSED: &str = r#"
import http.client, random, socket, sys, zlib
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
connection.connect()
connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
connection.request("GET", sys.argv[2], headers={"Accept-Encoding": "gzip"})
answer = connection.getresponse()
assert answer.headers["Content-Encoding"] == "gzip", answer.headers
body = answer.read(50_000)
print("stalled", flush=True)
sys.stdin.readline()
body = zlib.decompress(body + answer.read(), wbits=31)
assert body == random.Random(5).randbytes(8 << 20)
"#;

#[test]
fn behind_deflate_a_thread_waits_and_bodies_are_right() {
    let conf = conf("SetOutputFilter DEFLATE").with("filter").with("deflate");
    let server = Server::start(conf);
    let clients = WAYS.map(|way| {
        let mut command = Command::new(test_python());
        command.args(["-c", COMPRESSED, &server.port().to_string(), &format!("{way}?noise=1")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command.spawn().expect("a client")
    });
    for mut client in clients {
        says_hello(&server, 3);
        client.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
        assert!(client.wait().expect("it ends").success());
    }
    keeps(&server, 0);
}

#[test]
fn over_tls_and_http2_a_thread_waits_and_bodies_are_right() {
    let server = tls::serving("large.wsgi", "SendBufferSize 65536\nProtocols h2 http/1.1");
    tls::client(
        &server,
        r#"
import http.client, httpx, socket, ssl
context = ssl.create_default_context(cafile=CERTIFICATE)
port = int(BASE.rpartition(":")[2])
pattern = (bytes(range(251)) * 34000)[: 8 << 20]
ways = ["/list", "/iterator", "/blocks", "/written"]

def hello():
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
    connection.request("GET", "/hello")
    assert connection.getresponse().read() == b"hello"

stalled = []
for way in ways:
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.request("GET", way)
    answer = connection.getresponse()
    stalled.append((connection, answer, answer.read(50_000)))
for _ in range(5):
    hello()
for connection, answer, body in stalled:
    assert body + answer.read() == pattern
# A context of its own: this client has it speak HTTP/2.
both = ssl.create_default_context(cafile=CERTIFICATE)
with httpx.Client(http2=True, verify=both, timeout=60) as client:
    for way in ways:
        with client.stream("GET", BASE + way) as answer:
            assert answer.http_version == "HTTP/2"
            blocks = answer.iter_raw()
            body = next(blocks)
            hello()
            assert body + b"".join(blocks) == pattern
"#,
    );
    keeps(&server, 0);
}

/// It is silent for long enough that httpd's thread begins to wait for the client.
const TALKATIVE: &str = r#"
import time

def handle_request(environ, start_response):
    start_response("200 OK", [])
    yield bytes(8 << 20)
    time.sleep(0.5)
    for number in range(2000):
        print("line", number, file=environ["wsgi.errors"])
    yield b"end"
"#;

#[test]
fn an_application_that_logs_does_not_wait_for_a_client_that_reads_nothing() {
    let server = Server::start_with(conf("WSGIInterpreterThreads 1"), |root| {
        write(root, "apps/large.wsgi", TALKATIVE);
    });
    let (client, _) = stalled(&server, &Request::get("/"));
    server.log().wait_for(&["line 1999"]);
    drop(client);
}
