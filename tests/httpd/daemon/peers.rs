//! Odd and hostile peers: programs that connect to the socket of a worker process without being httpd,
//! worker programs that are none, and clients and applications that are slow or say too much.

use super::{conf, groups, sockets};
use crate::harness::{Client, Conf, Request, Server, at_once, eventually, pattern, test_python};
use crate::peer::{self, PROTOCOL, Peer, REFUSED};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Notes whom it has served, and tells the client.
const NOTING: &str = r#"
import os
STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")

def application(environ, start_response):
    user = environ.get("REMOTE_USER", "nobody")
    with open(os.path.join(STATE, "served"), "a") as file:
        file.write(user + "\n")
    start_response("200 OK", [])
    return [user.encode()]
"#;

/// That application at `/app`, in a process group.
fn noting() -> Conf {
    groups(
        "WSGIDaemonProcess shop threads=2\n\
         WSGIScriptAlias /app ${APPS}/noting.wsgi process-group=shop application-group=%{GLOBAL}",
    )
}

fn with_noting(root: &Path) {
    crate::harness::write(root, "apps/noting.wsgi", NOTING);
}

/// Whom the application has served.
fn served(server: &Server) -> Vec<String> {
    let text = fs::read_to_string(server.path("state/served")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A connection to the one worker process.
fn peer(server: &Server) -> Peer {
    Peer::connect(&sockets(server)[0])
}

/// A request of somebody who calls himself `admin`.
fn forged(server: &Server) -> Vec<u8> {
    let variables = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("REMOTE_USER", "admin")];
    peer::request(&server.path("apps/noting.wsgi"), None, &variables)
}

#[test]
fn who_lacks_the_secret_is_refused_in_words_and_has_no_request_run() {
    let server = Server::start_with(noting(), with_noting);
    let request = forged(&server);
    let page = peer::page();
    for (said, why) in [
        ([peer::hello(PROTOCOL, [0; 32]), request.clone()].concat(), "its secret is another"),
        (request.clone(), "it does not say who it is"),
        ([peer::hello(PROTOCOL + 1, [0; 32]), request].concat(), "restart httpd"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "it is too long"),
    ] {
        let before = server.log().lines_with(&["MNF0044"]).len();
        let mut peer = peer(&server);
        peer.say_with(&said, page.as_fd());
        let heard = peer.hear_all();
        let [(REFUSED, words)] = &heard[..] else { panic!("{heard:?}") };
        assert!(String::from_utf8_lossy(words).contains(why), "{heard:?}");
        let lines = server.log().wait_for_count(&["MNF0044"], before + 1);
        assert_eq!(lines.len(), before + 1, "{lines:#?}");
        let line = &lines[before];
        assert!(
            line.contains(":error]") && line.contains("'shop'") && line.contains(why),
            "{line}"
        );
    }
    server.get("/app").expect(200, "nobody");
    assert_eq!(served(&server), ["nobody"]);
}

/// What a CGI program may try, who is the same user as httpd's own processes and workers.
const INTRUDER: &str = r#"
import ctypes, os, socket, struct, sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
print("Content-Type: text/plain\n")

def frame(kind, content):
    return struct.pack("<IB", len(content), kind) + content

def text(text):
    return struct.pack("<I", len(text)) + text

def request():
    script = os.path.join(root, "apps", "noting.wsgi").encode()
    content = bytes(8) + text(b"") + text(script) + text(b"application") + text(b"_mod_wsgi_of_a_test")
    content += bytes(4 + 8 + 8 + 1) + struct.pack("<iI", 7, 1)
    return frame(2, content + text(b"REMOTE_USER") + text(b"admin") + bytes(1) + text(b""))

# 1. A request of its own making.
run = os.path.join(root, "run")
[path] = [os.path.join(run, name) for name in os.listdir(run) if name.endswith(".sock")]
page = os.memfd_create("page", os.MFD_ALLOW_SEALING)
os.ftruncate(page, 4096)
for hello in (b"", frame(1, struct.pack("<I", 1) + bytes(32))):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(30)
        peer.connect(path)
        socket.send_fds(peer, [hello + request()], [page])
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
        print("answer", *answer[4:5])

# 2. What only httpd and its workers know, read from them.
def parent(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None  # it has ended since it was listed

libc = ctypes.CDLL(None, use_errno=True)

class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def read_memory(process):
    own = ctypes.create_string_buffer(8)
    here, there = Piece(ctypes.addressof(own), 8), Piece(id(None), 8)
    read = libc.process_vm_readv(process, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    # An address that is none there would be another error.
    if read == -1 and ctypes.get_errno() == 1:
        raise PermissionError

def trace(process):
    if libc.ptrace(16, process, None, None) == -1:
        raise PermissionError
    libc.ptrace(17, process, None, None)

def open_all(process):
    for name in os.listdir(f"/proc/{process}/fd"):
        open(f"/proc/{process}/fd/{name}", "rb").close()

attempts = {name: lambda process, name=name: open(f"/proc/{process}/{name}", "rb").read(1)
            for name in ("mem", "environ", "maps", "auxv", "syscall", "stack")}
attempts |= {"vm": read_memory, "trace": trace, "fd": open_all}

above = parent(os.getppid())
family = [above] + [int(name) for name in os.listdir("/proc")
                    if name.isdigit() and int(name) != os.getpid() and parent(name) == above]
print("family", len(family))
for process in family:
    for name, attempt in attempts.items():
        try:
            attempt(process)
        except PermissionError:
            continue
        except OSError as error:
            if not os.path.exists(f"/proc/{process}"):
                continue  # it has ended
            name += f" ({error})"
        with open(f"/proc/{process}/comm") as comm:
            print("open", comm.read().strip(), name)
"#;

#[test]
fn a_cgi_program_can_neither_forge_a_user_nor_find_out_how() {
    let cgi = "<Directory \"${DOCS}\">\nOptions +ExecCGI\nSetHandler cgi-script\n\
               Require all granted\n</Directory>";
    for module in ["cgi", "cgid"] {
        let server = Server::start_with(noting().and(cgi).with(module), |root| {
            with_noting(root);
            let script = format!("#!{} -I\n{INTRUDER}", test_python().display());
            program(root, "docs/intruder", &script);
        });
        server.get("/app").expect(200, "nobody");
        let answer = server.get("/intruder");
        let (status, text) = (answer.status, answer.text());
        let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((status, lines("answer 17")), (200, 2), "{module}: {text}");
        server.log().wait_for_count(&["MNF0044", "'shop'"], 2);
        server.get("/app").expect(200, "nobody");
        assert_eq!(served(&server), ["nobody"; 2], "{module}");
        assert_eq!(lines("family"), 1, "{module}: {text}");
        match nix::unistd::geteuid().is_root() {
            true => assert_eq!(lines("open"), 0, "{module}: {text}"),
            false => println!("left out: httpd that is not started by root has no user of its own"),
        }
    }
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let server = Server::start(conf("connect-timeout=3"));
    let socket = &sockets(&server)[0];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Three hundred at any time: whichever is closed is made anew.
        let mut silent: Vec<_> = (0..300).map(|_| Peer::connect(socket)).collect();
        let done = &done;
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let closed = silent.iter_mut().filter(|peer| peer.is_closed());
                closed.for_each(|peer| *peer = Peer::connect(socket));
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let statuses = at_once(8, |_| (0..25).map(|_| server.get("/").status).collect::<Vec<_>>());
        done.store(true, Ordering::Relaxed);
        assert!(statuses.iter().flatten().all(|status| *status == 200), "{statuses:?}");
    });
    server.log().wait_for(&[":error]", "MNF0044", "'shop'", "said nothing"]);
}

/// A file of the server root that is a program.
fn program(root: &Path, inside: &str, text: &str) {
    crate::harness::write(root, inside, text);
    fs::set_permissions(root.join(inside), Permissions::from_mode(0o755)).expect("a program");
}

/// A process group whose worker program is that one.
fn with_worker(options: &str, text: &str) -> Server {
    let conf = conf(&format!("connect-timeout=1 {options} worker=${{ROOT}}/apps/other-worker"));
    Server::start_with(conf, |root| program(root, "apps/other-worker", text))
}

#[test]
fn a_worker_program_that_ends_at_once_is_named() {
    let server = with_worker("", "#!/bin/sh\nexit 1\n");
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":error]", "MNF0039", "connect-timeout (1 s"]);
    let how = ["MNF0048", "'shop'", "exit status 1", "/apps/other-worker'", "starts in"];
    server.log().wait_for(&how);
}

/// `manifold-worker`, whose orders are those of a module that speaks protocol 0.
const OTHER_PROTOCOL: &str = r#"
import os
with open(3, "rb", closefd=False) as orders:
    text = orders.read()
changed = os.memfd_create("orders")
os.write(changed, bytes(4) + text[4:])
os.lseek(changed, 0, os.SEEK_SET)
os.dup2(changed, 3)
os.execv(WORKER, [WORKER, "--serve"])
"#;

#[test]
fn a_worker_program_of_another_protocol_says_so_and_what_to_do() {
    let worker = env!("CARGO_BIN_EXE_manifold-worker");
    let text = OTHER_PROTOCOL.replace("WORKER", &format!("{worker:?}"));
    let server = with_worker("", &format!("#!{} -I\n{text}", test_python().display()));
    assert_eq!(server.get("/").status, 503);
    let both = format!("protocol 0, and this manifold-worker ({})", env!("CARGO_PKG_VERSION"));
    server.log().wait_for(&[":error]", "MNF0044", &both, "protocol 1", "restart httpd"]);
    server.log().wait_for(&["MNF0048", "exit status 1", "/apps/other-worker'"]);
}

/// A worker that is none of ours: it answers each connection with the next of what it has to say.
const NONSENSE: &str = r#"
import array, os, socket, struct

def frame(kind, content=b""):
    return struct.pack("<IB", len(content), kind) + content

def text(text):
    return struct.pack("<I", len(text)) + text

def part(status=200, value=b"yes", file=None, end=1, body=b"fine"):
    head = b"\1" + struct.pack("<H", status) + text(b"200 OK") + b"\0"
    head += struct.pack("<I", 1) + text(b"X-Odd") + text(value)
    place = b"\0" if file is None else b"\1" + struct.pack("<QQ", 0, file)
    return frame(21, bytes([end]) + head + place + body)

WELCOME = frame(16)
pipe, _ = os.pipe()
for said, descriptors in [
    (WELCOME + frame(99), []),
    (WELCOME + struct.pack("<IB", (16 << 20) + 1, 21), []),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", []),
    (frame(16, b"x"), []),
    (WELCOME + part(status=99), []),
    (WELCOME + part(value=b"no\r\nSet-Cookie: a=b"), []),
    (WELCOME + part(end=9), []),
    (WELCOME + part(file=5), []),
    (WELCOME + part(file=5), [pipe]),
    (WELCOME + frame(19, struct.pack("<II", 0, 0xffffffff)), []),
    (WELCOME + frame(20, b"\1\0what level?"), []),
    (WELCOME + frame(22, struct.pack("<H", 9999) + b"unheard of"), []),
    (WELCOME + frame(22, b"x"), []),
    (frame(17, b"it speaks protocol 1, and manifold-worker 9.9 protocol 2; restart httpd"), []),
    (WELCOME + part(end=0, body=b"begun,") + frame(99), []),
    (WELCOME + part(), []),
]:
    listener = socket.socket(fileno=os.dup(4))
    listener.setblocking(True)
    connection, _ = listener.accept()
    connection.recv(65536)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    connection.sendmsg([said], rights if descriptors else [])
    # It is closed by httpd, or was read to its end.
    connection.settimeout(30)
    while said != WELCOME + part() and connection.recv(65536):
        pass
    connection.close()
while True:
    connection, _ = listener.accept()
    connection.sendall(WELCOME + part()[:-1])
    connection.close()
"#;

#[test]
fn nonsense_from_a_worker_is_a_500_and_harms_nobody_else() {
    let interpreter = format!("#!{} -I\n", test_python().display());
    let server = with_worker("", &format!("{interpreter}{NONSENSE}"));
    let children = server.own_children();
    for why in [
        "sends none of that kind",
        "it is too long",
        "it is too long",
        "goes on behind its end",
        "its status is none",
        "a line of its head breaks",
        "its end is of an unknown kind",
        "its file did not come",
        "its file is none",
        "it asks for too much",
        "its level is unknown",
        "its code is unknown",
        "it is cut off",
        "manifold-worker 9.9 protocol 2; restart httpd",
    ] {
        let before = server.log().lines_with(&["MNF0044"]).len();
        assert_eq!(server.get("/").status, 500, "{why}");
        let line = server.log().wait_for_count(&["MNF0044"], before + 1).remove(before);
        assert!(line.contains(why) && line.contains("'shop'"), "{why}: {line}");
    }
    let answer = server.get("/");
    assert_eq!((answer.status, answer.whole, answer.text().as_str()), (200, false, "begun,"));
    let answer = server.get("/");
    answer.expect(200, "fine");
    assert_eq!(answer.header("X-Odd").as_deref(), Some("yes"));
    // Frames that are cut off are those of a process that has died.
    assert_eq!(server.get("/").status, 503);
    server.log().wait_for(&[":error]", "MNF0039", "'shop'", "connect-timeout (1 s"]);
    assert_eq!(server.own_children(), children);
}

/// Answers with more than a client that does not read has room for, and logs a hundred megabytes then.
const TALKATIVE: &str = r#"
LINE = "y" * 999 + "\n"

def application(environ, start_response):
    start_response("200 OK", [])
    return talk(environ) if environ["PATH_INFO"] == "/talk" else [b"hello"]

def talk(environ):
    yield bytes(4_000_000)
    for _ in range(100_000):
        environ["wsgi.errors"].write(LINE)
    yield b"end"
"#;

/// An error log that is read while it grows.
struct Following {
    log: BufReader<File>,
    /// What there is of the next line.
    line: Vec<u8>,
}

impl Following {
    fn of(server: &Server) -> Self {
        let log = File::open(server.path("logs/error.log")).expect("the log");
        Self { log: BufReader::new(log), line: Vec::new() }
    }

    fn next_line(&mut self) -> Option<String> {
        self.log.read_until(b'\n', &mut self.line).expect("the log is read");
        let whole = self.line.pop_if(|last| *last == b'\n').is_some();
        whole.then(|| String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned())
    }
}

/// The most memory that a process has had, in bytes.
fn most_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
    let kilobytes: u64 =
        line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number");
    kilobytes * 1024
}

#[test]
fn an_application_that_logs_a_hundred_megabytes_for_a_slow_client_grows_nothing() {
    let conf = groups(
        "WSGIDaemonProcess shop threads=16\nSendBufferSize 65536\n\
         WSGIScriptAlias / ${APPS}/talkative.wsgi process-group=shop application-group=shop\n\
         <Location />\nRequire all granted\n</Location>",
    );
    let server = Server::start_with(conf.threads(16), |root| {
        crate::harness::write(root, "apps/talkative.wsgi", TALKATIVE);
    });
    server.get("/").expect(200, "hello");
    let processes = [server.own_children()[0], server.workers()[0]];
    let before = processes.map(most_memory);
    let mut slow = server.narrow_client();
    slow.send_head(&Request::get("/talk"));
    assert_eq!(slow.read_head().status, 200);
    for _ in 0..10 {
        at_once(15, |_| server.get("/").expect(200, "hello"));
    }
    let mut log = Following::of(&server);
    // However long that takes, as long as it goes on. What came too fast for the disk is counted.
    let mut logged = 0;
    while logged < 100_000 {
        let line = eventually("more is logged", || log.next_line());
        logged += match line.split_once("MNF0017: ") {
            Some((_, dropped)) => {
                dropped.split(' ').next().expect("a word").parse().expect("a number")
            }
            None => u32::from(line.ends_with("yyyy")),
        };
    }
    assert_eq!(logged, 100_000);
    for (process, before) in processes.into_iter().zip(before) {
        let more = most_memory(process).saturating_sub(before);
        assert!(more < 32 << 20, "{process} has grown by {more} bytes");
    }
    let mut body = Vec::new();
    while !body.ends_with(b"\r\n0\r\n\r\n") {
        body.extend(slow.read_bytes(1));
    }
    assert!(body.ends_with(b"end\r\n0\r\n\r\n") && body.len() > 4_000_000);
}

#[test]
fn slow_clients_of_large_responses_leave_the_threads_of_both_sides_free() {
    let conf = groups(
        "WSGIDaemonProcess shop threads=15\nSendBufferSize 65536\n\
         WSGIScriptAlias / ${APPS}/large.wsgi process-group=shop application-group=shop \
         callable-object=handle_request\n<Location />\nRequire all granted\n</Location>",
    );
    let server = Server::start(conf.threads(8));
    let mut slow: Vec<Client> = (0..15)
        .map(|number| {
            let mut client = server.narrow_client();
            let way = ["list", "iterator", "blocks", "written"][number % 4];
            client.send_head(&Request::get(&format!("/{way}?length={}", 8 << 20)));
            assert_eq!(client.read_head().status, 200);
            client
        })
        .collect();
    for _ in 0..10 {
        at_once(15, |_| server.get("/hello").expect(200, "hello"));
    }
    for client in &mut slow {
        assert!(client.read_bytes(8 << 20) == pattern(8 << 20), "another body came");
        client.send(&Request::get("/hello")).expect(200, "hello");
    }
}

#[test]
fn a_response_of_which_nothing_is_taken_for_response_socket_timeout_breaks_off() {
    // Behind a filter of the body httpd's thread waits for the client.
    let group = |options: &str| {
        groups(&format!(
            "WSGIDaemonProcess shop {options}\nSendBufferSize 65536\nSetOutputFilter SUBSTITUTE\n\
             WSGIScriptAlias / ${{APPS}}/large.wsgi process-group=shop application-group=shop \
             callable-object=handle_request\n<Location />\nRequire all granted\n</Location>"
        ))
        .with("substitute")
    };
    for options in ["response-socket-timeout=1", "socket-timeout=1"] {
        let server = Server::start(group(options));
        let mut slow = server.narrow_client();
        slow.send_head(&Request::get(&format!("/blocks?length={}", 32 << 20)));
        assert_eq!(slow.read_head().status, 200);
        let line = server.log().wait_for(&[":error]", "MNF0051", "'shop'", "(1 s)"]);
        assert!(line.contains("response-socket-timeout"), "{line}");
        let rest = slow.read_rest();
        assert!(rest.len() < 32 << 20 && !rest.ends_with(b"\r\n0\r\n\r\n"), "{}", rest.len());
        server.get("/hello").expect(200, "hello");
    }
}
