//! The other MPMs: worker has several threads in a child, as event has; prefork has one request in
//! a child, and calls the module's stop hook from a signal handler, on the thread that serves it.

use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::harness::{
    Client, Conf, Load, Mode, Request, Response, Server, at_once, eventually, pattern, write,
};
use crate::port::Port;

/// Why what an environ says of processes and threads is asked inside httpd.
const OWN_ENVIRON: &str = "in a process group its options say it";

/// One load at a time, on a small machine.
static LOAD: Mutex<()> = Mutex::new(());

/// httpd with the prefork MPM, which `Server` does not start.
struct Prefork {
    root: TempDir,
    child: Child,
    port: Port,
    ended: Option<ExitStatus>,
}

impl Prefork {
    /// Starts httpd with as many children as `children`, and returns when it serves.
    fn start(conf: &Conf, children: u32) -> Prefork {
        let mut server = Prefork::launch(conf, children);
        assert!(server.is_up(), "httpd did not start");
        server
    }

    fn launch(conf: &Conf, children: u32) -> Prefork {
        let root = make_root();
        let port = Port::hold("127.0.0.1:0").expect("a free port on loopback");
        // These are about threads, of which prefork has none.
        let threads = ["ThreadLimit", "ThreadsPerChild", "MinSpareThreads", "MaxSpareThreads"];
        let text = conf.render(root.path(), port.number()).replace("mpm_event", "mpm_prefork");
        let lines = text.lines().filter(|line| !threads.iter().any(|word| line.starts_with(word)));
        let text = format!(
            "{}\nStartServers {children}\nMaxRequestWorkers {children}\n\
             MinSpareServers 1\nMaxSpareServers {}\n",
            lines.collect::<Vec<_>>().join("\n"),
            children + 1
        );
        let file = root.path().join("conf/httpd.conf");
        fs::write(&file, text).expect("httpd.conf is written");
        let said = File::create(root.path().join("logs/said")).expect("a file for httpd's output");
        let mut command = Command::new(httpd());
        command.arg("-d").arg(root.path()).arg("-f").arg(&file).args(["-D", "FOREGROUND"]);
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a duplicate")).stderr(said);
        // prefork signals its whole process group, which must not be ours.
        command.process_group(0);
        // An interrupted run leaves no server behind; the thread of a test outlives its server.
        #[cfg(target_os = "linux")]
        // SAFETY: it makes one system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let child = command.spawn().expect("httpd starts");
        Prefork { root, child, port, ended: None }
    }

    /// Connected, or exited.
    fn is_up(&mut self) -> bool {
        eventually("httpd serves, or ends", || {
            let resumed = !self.lines_with(&["resuming normal operations"]).is_empty();
            let up = resumed && TcpStream::connect(self.address()).is_ok();
            (up || self.has_ended()).then_some(up)
        })
    }

    fn serving(app: &str, children: u32) -> Prefork {
        Prefork::start(&Conf::serving(app), children)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    fn client(&self) -> Client {
        Client::connect(self.address())
    }

    fn get(&self, target: &str) -> Response {
        self.client().send(&Request::get(target).header("Connection", "close"))
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    /// The lines of the error log that contain every one of `words`.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let log = fs::read(self.path("logs/error.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let wanted = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().filter(wanted).map(str::to_owned).collect()
    }

    fn children(&self) -> Vec<u32> {
        let parent = self.child.id();
        let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let list = list.expect("these tests need /proc");
        list.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
    }

    fn graceful(&self) {
        let resumed = self.lines_with(&["resuming normal operations"]).len();
        self.signal(libc::SIGUSR1);
        eventually("the next generation", || {
            (self.lines_with(&["resuming normal operations"]).len() > resumed).then_some(())
        });
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: kill takes no pointers, and the child is ours and not reaped, so the id is its.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "httpd takes signal {signal}");
    }

    fn begin_stop(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Waits for the end of a stop that was begun, and checks that no child crashed or was killed.
    fn ended(mut self) {
        self.wait_for_end();
    }

    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("httpd can be waited for");
        }
        self.ended.is_some()
    }

    fn wait_for_end(&mut self) {
        eventually("httpd stops", || self.has_ended().then_some(()));
        for word in ["still did not exit", "SIGKILL", "exit signal", "panicked", "Fatal Python"] {
            assert_eq!(self.lines_with(&[word]), [""; 0], "children that ended badly");
        }
        assert!(self.ended.is_some_and(|status| status.success()), "{:?}", self.ended);
    }
}

impl Drop for Prefork {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for file in ["conf/httpd.conf", "logs/said", "logs/error.log"] {
                let text = fs::read(self.path(file)).unwrap_or_default();
                eprintln!("--- {file}\n{}", String::from_utf8_lossy(&text));
            }
        }
        if self.has_ended() {
            return;
        }
        self.begin_stop();
        if std::thread::panicking() {
            let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
            while !self.has_ended() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        } else {
            // Every test is also a test of the stop at its end.
            self.wait_for_end();
        }
    }
}

/// A server root with the applications that these tests use, readable by everyone.
fn make_root() -> TempDir {
    let root = tempfile::Builder::new().prefix("manifold-").tempdir().expect("a server root");
    let open = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode is set");
    };
    open(root.path(), 0o755);
    for folder in ["conf", "logs", "run", "docs", "state"] {
        fs::create_dir(root.path().join(folder)).expect("a folder of the server root");
        open(&root.path().join(folder), if folder == "state" { 0o777 } else { 0o755 });
    }
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps");
    for app in ["environ", "hello", "waiting", "busy", "held", "leaving", "farewell", "echo"] {
        let text = fs::read_to_string(apps.join(format!("{app}.wsgi"))).expect("an application");
        write(root.path(), &format!("apps/{app}.wsgi"), &text);
    }
    root
}

fn httpd() -> PathBuf {
    if let Some(path) = std::env::var_os("MANIFOLD_HTTPD") {
        return path.into();
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&search).chain(["/usr/sbin".into()]);
    let programs = folders.flat_map(|folder| ["apache2", "httpd"].map(|name| folder.join(name)));
    programs
        .into_iter()
        .find(|path| path.is_file())
        .expect("httpd, or MANIFOLD_HTTPD that names it")
}

/// A FIFO in the state folder: whoever opens it for reading is held there.
struct Gate(PathBuf);

impl Gate {
    fn make(path: PathBuf) -> Gate {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the name is a C string that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0, "a FIFO");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("its mode is set");
        Gate(path)
    }

    /// Waits until someone stands at the gate, and returns its other end.
    fn held(&self) -> File {
        use std::os::unix::fs::OpenOptionsExt;
        eventually("someone at the gate", || {
            // Without a reader this fails at once (ENXIO).
            File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.0).ok()
        })
    }
}

/// Lets everyone pass who is there, and who comes before this end is closed.
fn open(mut gate: &File) {
    std::io::Write::write_all(&mut gate, &[0; 4096]).expect("a pipe takes a page");
}

#[test]
fn worker_serves_with_several_threads_in_one_child() {
    let server = Server::start(Conf::serving("environ.wsgi").on_worker());
    let answer = server.get("/x");
    assert_eq!((answer.status, answer.fact("wsgi.multithread")), (200, "True".to_owned()));
    assert_eq!(answer.fact("wsgi.multiprocess"), "False", "there may be one child");
    server.stop();
}

#[test]
fn worker_says_when_it_may_have_several_children() {
    let conf = Conf::serving("environ.wsgi").on_worker().and("MaxRequestWorkers 16");
    let answer = Server::start(conf.inside_httpd(OWN_ENVIRON)).get("/x");
    assert_eq!((answer.status, answer.fact("wsgi.multithread")), (200, "True".to_owned()));
    assert_eq!(answer.fact("wsgi.multiprocess"), "True");
}

#[test]
fn prefork_serves_with_one_thread_in_several_children() {
    let conf = Conf::serving("environ.wsgi").inside_httpd(OWN_ENVIRON);
    let server = Prefork::start(&conf, 3);
    for _ in 0..5 {
        let answer = server.get("/x");
        assert_eq!((answer.status, answer.fact("wsgi.multithread")), (200, "False".to_owned()));
        assert_eq!(answer.fact("wsgi.multiprocess"), "True");
    }
    drop(server);
    let answer = Prefork::start(&conf, 1).get("/x");
    assert_eq!(answer.fact("wsgi.multiprocess"), "False", "there may be one child");
}

#[test]
fn worker_serves_requests_at_the_same_time() {
    let server = Server::start(Conf::serving("waiting.wsgi").on_worker());
    for answer in at_once(8, |_| server.get("/meet?parties=8")) {
        answer.expect(200, "8 have met");
    }
}

#[test]
fn prefork_serves_requests_at_the_same_time_in_different_children() {
    let server = Prefork::serving("waiting.wsgi", 3);
    let gate = Gate::make(server.path("state/gate"));
    let mut held: Vec<_> = (0..2).map(|_| server.client()).collect();
    for client in &mut held {
        client.send_head(&Request::get("/gate").header("Connection", "close"));
    }
    let opened = gate.held();
    for _ in 0..3 {
        server.get("/").expect(200, "at once");
    }
    open(&opened);
    for client in &mut held {
        client.read("GET").expect(200, "past the gate");
    }
}

#[test]
fn prefork_asks_hook_scripts() {
    let conf = Conf::serving("hello.wsgi")
        .and("<Location />\nWSGIAccessScript ${APPS}/hook.py application-group=hooks\n</Location>");
    let server = Prefork::start(&conf, 3);
    assert_eq!(server.get("/x").status, 403, "there is no script yet");
    let text = "def allow_access(environ, host):\n    return environ['QUERY_STRING'] != 'no'\n";
    write(server.root.path(), "apps/hook.py", text);
    let answers = at_once(9, |i| server.get(if i % 3 == 2 { "/x?no" } else { "/x" }).status);
    assert_eq!(answers, [200, 200, 403].repeat(3));
    server.begin_stop();
    server.ended();
}

#[test]
fn prefork_carries_bodies_of_every_size() {
    let server = Prefork::serving("echo.wsgi", 2);
    for size in [0, 1, 65_537, 3 << 20] {
        let body = pattern(size);
        server.client().send(&Request::post("/whole", &body)).carries(&body);
        server.client().send(&Request::post("/pieces", &body)).carries(&body);
    }
}

#[test]
fn a_graceful_restart_of_worker_finishes_the_request_in_flight() {
    // Room for a child beside the one that still ends: worker counts both.
    let conf = Conf::serving("waiting.wsgi").on_worker().and("MaxRequestWorkers 64");
    let server = Server::start(conf);
    let gate = server.gate("gate");
    let old = server.only_child();
    let mut waiting = server.client();
    waiting.send_head(&Request::get("/gate"));
    gate.held();
    server.graceful();
    server.get("/").expect(200, "at once");
    assert!(server.children().contains(&old), "the old child still has a request");
    gate.open();
    waiting.read("GET").expect(200, "past the gate");
    eventually("the old child ends", || (!server.children().contains(&old)).then_some(()));
    server.stop();
}

#[test]
fn a_graceful_restart_of_prefork_finishes_the_request_in_flight() {
    let server = Prefork::serving("waiting.wsgi", 2);
    let gate = Gate::make(server.path("state/gate"));
    let old = server.children();
    let mut waiting = server.client();
    waiting.send_head(&Request::get("/gate"));
    let opened = gate.held();
    server.graceful();
    server.get("/").expect(200, "at once");
    assert!(server.children().iter().any(|child| old.contains(child)), "it still has a request");
    open(&opened);
    waiting.read("GET").expect(200, "past the gate");
    eventually("the old children end", || {
        (!server.children().iter().any(|child| old.contains(child))).then_some(())
    });
}

#[test]
fn a_graceful_stop_of_prefork_finishes_the_request_in_flight() {
    let server = Prefork::serving("waiting.wsgi", 2);
    let gate = Gate::make(server.path("state/gate"));
    let mut waiting = server.client();
    waiting.send_head(&Request::get("/gate"));
    let opened = gate.held();
    server.signal(libc::SIGWINCH);
    eventually("httpd is told", || (!server.lines_with(&["SIGWINCH"]).is_empty()).then_some(()));
    open(&opened);
    waiting.read("GET").expect(200, "past the gate");
    server.ended();
}

#[test]
fn a_stop_of_worker_does_not_wait_for_applications_that_wait() {
    for group in ["app", "%{GLOBAL}"] {
        let conf = Conf::serving("waiting.wsgi").on_worker();
        let server = Server::start(conf.and(&format!("WSGIApplicationGroup {group}")));
        let gate = server.gate("gate");
        let [mut at_the_gate, mut for_ever] = [server.client(), server.client()];
        for_ever.send_head(&Request::get("/for-ever"));
        at_the_gate.send_head(&Request::get("/gate"));
        gate.held();
        server.begin_stop();
        server.ended();
        drop(gate);
    }
}

#[test]
fn a_stop_of_prefork_does_not_wait_for_applications_that_wait() {
    for group in ["app", "%{GLOBAL}"] {
        let conf = Conf::serving("waiting.wsgi").and(&format!("WSGIApplicationGroup {group}"));
        let server = Prefork::start(&conf, 3);
        let gate = Gate::make(server.path("state/gate"));
        let [mut at_the_gate, mut for_ever, mut half] = [(); 3].map(|()| server.client());
        for_ever.send_head(&Request::get("/for-ever"));
        half.send_head(&Request::get("/half"));
        assert_eq!(half.read_head().status, 200);
        at_the_gate.send_head(&Request::get("/gate"));
        let opened = gate.held();
        server.begin_stop();
        server.ended();
        drop(opened);
    }
}

#[test]
fn a_stop_of_prefork_does_not_wait_for_an_application_that_keeps_its_gil() {
    let server = Prefork::serving("busy.wsgi", 1);
    let flags = server.path("state/busy");
    fs::write(&flags, [0, 0]).expect("the flags are written");
    fs::set_permissions(&flags, Permissions::from_mode(0o666)).expect("its mode is set");
    let mut client = server.client();
    client.send_head(&Request::get("/"));
    eventually("the computation has begun", || {
        (fs::read(&flags).expect("the flags")[1] == 1).then_some(())
    });
    server.begin_stop();
    server.ended();
    drop(client);
}

#[test]
fn a_stop_of_prefork_does_not_wait_for_a_script_that_is_still_loading() {
    let server = Prefork::serving("held.wsgi", 1);
    let gate = Gate::make(server.path("state/import"));
    let mut client = server.client();
    client.send_head(&Request::get("/"));
    let opened = gate.held();
    server.begin_stop();
    server.ended();
    drop((client, opened));
}

#[test]
fn a_stop_of_prefork_does_not_wait_for_a_slow_client() {
    let server = Prefork::serving("leaving.wsgi", 2);
    let [mut downloading, mut uploading] = [server.client(), server.client()];
    // One does not read what is sent to it, the other does not send what it has announced.
    downloading.send_head(&Request::get("/download"));
    assert_eq!(downloading.read_head().status, 200);
    uploading.send_head(&Request::new("POST", "/upload").header("Content-Length", "1000000"));
    uploading.write(&[b'x'; 4096]);
    assert_eq!(uploading.read_head().status, 200);
    server.begin_stop();
    server.ended();
    drop((downloading, uploading));
}

#[test]
fn exit_functions_run_in_the_children_of_prefork() {
    let server = Prefork::serving("farewell.wsgi", 1);
    server.get("/").expect(200, "hello");
    let note = server.path("state/farewell-app");
    server.begin_stop();
    eventually("a note of farewell", || {
        (fs::read_to_string(&note).ok()? == "goodbye\n").then_some(())
    });
    server.ended();
}

#[test]
fn children_of_prefork_that_have_served_enough_are_replaced() {
    let conf = Conf::serving("environ.wsgi").and("MaxConnectionsPerChild 3");
    let server = Prefork::start(&conf, 1);
    let mut children = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let answer = server.get("/");
        assert_eq!(answer.status, 200);
        children.insert(answer.fact("mod_wsgi.server_pid"));
    }
    assert!(children.len() >= 3, "{children:?}");
}

#[test]
fn ten_stops_of_worker_under_load_end_well() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..10 {
        let server = Server::start(Conf::serving("hello.wsgi").on_worker());
        let load = Load::start(server.address(), "/", 3, Mode::KeepAlive);
        load.goes_on(20);
        server.begin_stop();
        server.ended();
        load.finish();
    }
}

#[test]
fn ten_stops_of_prefork_under_load_end_well() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    for mode in [Mode::Close, Mode::KeepAlive] {
        for _ in 0..5 {
            let server = Prefork::serving("hello.wsgi", 3);
            let load = Load::start(server.address(), "/", 3, mode);
            load.goes_on(20);
            server.begin_stop();
            server.ended();
            load.finish();
        }
    }
}

#[test]
fn graceful_restarts_of_prefork_lose_no_request() {
    let _alone = LOAD.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Prefork::serving("hello.wsgi", 3);
    let load = Load::start(server.address(), "/", 2, Mode::Close);
    for _ in 0..3 {
        load.goes_on(20);
        server.graceful();
    }
    load.goes_on(20);
    let tally = load.finish();
    assert!(tally.resets == 0 && tally.failures.is_empty(), "{tally:?}");
}
