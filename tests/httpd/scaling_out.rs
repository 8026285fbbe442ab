//! Two nodes behind httpd's own balancer: the configuration is what docs/scaling-out.md has its reader write.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::harness::{Conf, Load, Mode, Request, Server, eventually, write};
use crate::pages;
use crate::port::Port;

const PAGE: &str = "docs/scaling-out.md";
const NODES: [&str; 2] = ["127.0.0.2", "127.0.0.3"];

/// Where the balancer listens, and the nodes.
struct Ports {
    front: Port,
    back: [Port; 2], // one number
}

impl Ports {
    fn hold() -> Ports {
        let front = Port::hold("127.0.0.1:0").expect("a port");
        let back = eventually("a port that is free at both nodes", || {
            let first = Port::hold((NODES[0], 0)).ok()?;
            let second = Port::hold((NODES[1], first.number())).ok()?;
            Some([first, second])
        });
        Ports { front, back }
    }

    fn front(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.front.number()))
    }

    fn back(&self) -> u16 {
        self.back[0].number()
    }
}

/// What the page calls `id`, with ports that are free here.
fn block(id: &str, ports: &Ports) -> String {
    let text = pages::block(PAGE, &format!("id={id}")).text;
    text.replace(":8080", &format!(":{}", ports.front.number()))
        .replace(":8081", &format!(":{}", ports.back()))
}

fn start_node(address: &str, ports: &Ports) -> Server {
    start_node_with(address, ports, &pages::block(PAGE, "file=app.wsgi").text)
}

fn start_node_with(address: &str, ports: &Ports, application: &str) -> Server {
    let text = block("node", ports).replace(NODES[0], address).replace("/srv", "${ROOT}/srv");
    // More than it is asked at a time: where no thread is idle, event closes a kept connection that has a
    // request, and the balancer takes the node for dead.
    Server::start_with(Conf::new(&text).with("authz_host").threads(32), |root| {
        write(root, "srv/shop/app.wsgi", application);
    })
}

/// A balancer that asks nodes for this path.
fn start_balancer(ports: &Ports, health: &str) -> Server {
    let text = block("balancer", ports).replace("hcuri=/health", &format!("hcuri={health}"));
    let mut conf = Conf::new(&text).inside_httpd("it has no application").threads(32);
    for module in [
        "proxy",
        "proxy_http",
        "slotmem_shm",
        "proxy_balancer",
        "watchdog",
        "proxy_hcheck",
        "lbmethod_bybusyness",
        "rewrite",
    ] {
        conf = conf.with(module);
    }
    Server::start(conf)
}

/// Which node answers.
fn ask(front: SocketAddr) -> String {
    let answer = crate::harness::Client::connect(front)
        .send(&Request::get("/").header("Connection", "close"));
    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
    answer.text().trim().trim_start_matches("served by ").to_owned()
}

fn waits_until_asked(front: SocketAddr, node: &str) {
    eventually(&format!("{node} is asked"), || (ask(front) == node).then_some(()));
}

#[test]
fn no_idempotent_request_fails_while_a_node_is_killed_and_comes_back() {
    let ports = Ports::hold();
    let front = ports.front();
    let [first, second] = NODES.map(|node| start_node(node, &ports));
    let balancer = start_balancer(&ports, "/health");
    NODES.iter().for_each(|node| waits_until_asked(front, node));

    let closing = Load::start(front, "/?a=%26", 4, Mode::Close);
    let keeping = Load::start(front, "/?a=%26", 4, Mode::KeepAlive);
    let mut nodes = [Some(first), Some(second)];
    for round in 0..4 {
        let at = round % 2;
        closing.goes_on(100);
        keeping.goes_on(100);
        nodes[at].take().expect("a node").kill_whole();
        closing.goes_on(100);
        keeping.goes_on(100);
        nodes[at] = Some(start_node(NODES[at], &ports));
        waits_until_asked(front, NODES[at]);
    }
    let (closing, keeping) = (closing.finish(), keeping.finish());
    eprintln!(
        "{} and {} answered, {} asked again",
        closing.answered, keeping.answered, keeping.resets
    );
    assert_eq!((closing.resets, closing.failures), (0, Vec::new()));
    // By closing a kept connection before any of an answer httpd tells its client to ask again, which this one does.
    assert_eq!(keeping.failures, Vec::<String>::new());
    balancer.stop();
}

/// The page's application, which is not well while there is a file.
const ILL: &str = r#"
import os
ILL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ill")
well = application

def application(environ, start_response):
    if environ["PATH_INFO"] == "/well" and os.path.exists(ILL):
        start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"the database does not answer"]
    return well(environ, start_response)
"#;

#[test]
fn a_node_that_says_it_is_not_well_is_left_alone_until_it_is() {
    let ports = Ports::hold();
    let front = ports.front();
    let application = pages::block(PAGE, "file=app.wsgi").text + ILL;
    let first = start_node_with(NODES[0], &ports, &application);
    let _second = start_node(NODES[1], &ports);
    let balancer = start_balancer(&ports, "/well");
    NODES.iter().for_each(|node| waits_until_asked(front, node));
    first.write("srv/shop/ill", "");
    let others = || (0..20).all(|_| ask(front) == NODES[1]);
    eventually("all requests go to the other node", || others().then_some(()));
    std::fs::remove_file(first.path("srv/shop/ill")).expect("the file is there");
    waits_until_asked(front, NODES[0]);
    balancer.stop();
}

#[test]
fn a_request_that_may_not_be_asked_twice_is_not() {
    let ports = Ports::hold();
    let front = ports.front();
    let balancer = start_balancer(&ports, "/health");
    // A node that takes a request and goes away with it, at both addresses.
    let deaf = NODES.map(|node| {
        let listener = TcpListener::bind((node, ports.back())).expect("the port is free");
        std::thread::spawn(move || {
            let mut asked = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket has it");
                let mut head = [0; 4096];
                let count = std::io::Read::read(&mut stream, &mut head).unwrap_or(0);
                let line = String::from_utf8_lossy(&head[..count]);
                let line = line.lines().next().unwrap_or_default().to_owned();
                match line.split(' ').nth(1) {
                    Some("/health") => {
                        let _ = std::io::Write::write_all(
                            &mut stream,
                            b"HTTP/1.0 204 No Content\r\n\r\n",
                        );
                    }
                    Some("/end") => return asked,
                    _ => asked.push(line),
                }
            }
            asked
        })
    });
    let close = |request: Request| {
        let mut client = crate::harness::Client::connect(front);
        client.send(&request.header("Connection", "close")).status
    };
    assert_eq!(close(Request::post("/order?a=%26", b"one")), 502);
    assert_eq!(close(Request::get("/list?a=%26")), 502);
    for node in NODES {
        let mut stream = std::net::TcpStream::connect((node, ports.back())).expect("it listens");
        std::io::Write::write_all(&mut stream, b"GET /end HTTP/1.0\r\n\r\n").expect("it reads");
    }
    let mut asked: Vec<_> =
        deaf.into_iter().flat_map(|node| node.join().expect("a node")).collect();
    asked.sort();
    let twice = "GET /list?a=%26 HTTP/1.1";
    assert_eq!(asked, [twice, twice, "POST /order?a=%26 HTTP/1.1"]);
    balancer.stop();
}
