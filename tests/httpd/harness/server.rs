//! One httpd: started in the foreground on a port of its own, ended and reaped when the test is
//! over, and all it said is shown when the test fails.

use std::fs::{self, File, OpenOptions, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::gate::{Flags, Gate};
use super::process::{Descriptor, children_of, connections_held_at, is_asleep, is_over, spawn};
use super::{Client, Conf, ErrorLog, PATIENCE, Request, Response, eventually};
use crate::port::Port;

/// A running httpd, in a server root that goes with it.
pub(crate) struct Server {
    root: TempDir,
    conf: String,
    command: String,
    child: Child,
    port: Port,
    ended: Option<ExitStatus>,
    by_daemon: bool,
    killed: bool,
}

impl Server {
    /// Starts httpd and returns when it serves.
    pub(crate) fn start(conf: Conf) -> Server {
        Server::start_with(conf, |_| ())
    }

    /// The same, with files of the test's own put into the server root first.
    pub(crate) fn start_with(conf: Conf, prepare: impl FnOnce(&Path)) -> Server {
        let root = make_root();
        prepare(root.path());
        let mut server = Server::launch(root, &conf);
        assert!(server.is_up(), "httpd did not start");
        server
    }

    /// A server of `Conf::serving(app)`.
    pub(crate) fn serving(app: &str) -> Server {
        Server::start(Conf::serving(app))
    }

    /// A request on a connection of its own.
    pub(crate) fn send(&self, request: &Request) -> Response {
        self.client().send(&request.clone().header("Connection", "close"))
    }

    /// `GET target` on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A new connection that has little room for what it does not read.
    pub(crate) fn narrow_client(&self) -> Client {
        Client::connect_narrow(self.address())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port()))
    }

    /// httpd's parent.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its error log.
    pub(crate) fn log(&self) -> ErrorLog {
        ErrorLog::at(self.path("logs/error.log"))
    }

    /// A path inside the server root.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside)
    }

    /// Writes a file that httpd's children may read, with a time no earlier version had.
    pub(crate) fn write(&self, inside: &str, text: &str) {
        write(self.root(), inside, text);
    }

    /// Gives a file another time of change, since file systems tell only some milliseconds apart.
    pub(crate) fn set_time(&self, inside: &str, seconds_from_now: i64) {
        let shift = Duration::from_secs(seconds_from_now.unsigned_abs());
        let now = SystemTime::now();
        let time = if seconds_from_now < 0 { now - shift } else { now + shift };
        let file = OpenOptions::new().write(true).open(self.path(inside));
        file.and_then(|file| file.set_modified(time)).expect("its time is set");
    }

    /// A FIFO in `${STATE}`: whoever opens it for reading is held there.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate::make(self.path("state").join(name))
    }

    /// Asks for something whose application stands at the gate `held`, and waits until it does.
    pub(crate) fn hold(&self, url: &str) -> (Client, Gate) {
        let gate = self.gate("held");
        let mut client = self.client();
        client.send_head(&Request::get(url));
        gate.held();
        (client, gate)
    }

    /// The two flags of `busy.wsgi`.
    pub(crate) fn flags(&self) -> Flags {
        Flags::make(&self.path("state/busy"))
    }

    /// httpd's own processes that its parent has started and that have not ended.
    pub(crate) fn own_children(&self) -> Vec<u32> {
        children_of(self.child.id(), false)
    }

    /// The one child of httpd's, which takes requests from clients.
    pub(crate) fn only_own_child(&self) -> u32 {
        only("child of httpd", || self.own_children())
    }

    /// The worker processes of process groups that have not ended.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children_of(self.child.id(), true)
    }

    /// The processes that run applications: httpd's own, or those of a process group.
    pub(crate) fn children(&self) -> Vec<u32> {
        if self.by_daemon { self.workers() } else { self.own_children() }
    }

    /// The one process that runs applications; waits while an older one is still ending.
    pub(crate) fn only_child(&self) -> u32 {
        only("process that runs applications", || self.children())
    }

    /// The descriptors that httpd's one child has and, where there is one, the worker process.
    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        let workers = if self.by_daemon { vec![self.only_child()] } else { Vec::new() };
        let of = |process| {
            let folder = fs::read_dir(format!("/proc/{process}/fd")).expect("it has descriptors");
            folder.flatten().filter_map(|entry| Descriptor::of(&entry.path()))
        };
        [self.only_own_child()].into_iter().chain(workers).flat_map(of).collect()
    }

    /// A graceful restart; returns when the next generation has been started.
    pub(crate) fn graceful(&self) {
        let resumed = self.log().lines_with(&["resuming normal operations"]).len();
        self.signal(libc::SIGUSR1);
        self.log().wait_for_count(&["resuming normal operations"], resumed + 1);
    }

    /// Ends httpd's parent as nothing should; its children are left.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("httpd is there");
        self.ended = Some(self.child.wait().expect("httpd is waited for"));
        self.killed = true;
    }

    /// Ends httpd's parent, its children and worker processes, all by SIGKILL, as a machine ends that loses its
    /// power; returns when the last is gone.
    pub(crate) fn kill_whole(mut self) {
        let children = [self.own_children(), self.workers()].concat();
        self.child.kill().expect("httpd is there");
        for &child in &children {
            let pid = libc::pid_t::try_from(child).expect("a process id fits");
            // SAFETY: kill takes no pointers. The process was our server's a moment ago; where it has ended by itself
            // meanwhile there is none of that id.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        eventually("the children are gone", || {
            children.iter().all(|&child| is_over(child)).then_some(())
        });
        self.ended = Some(self.child.wait().expect("httpd is waited for"));
        self.killed = true;
    }

    /// Starts an ordinary stop without waiting for its end.
    pub(crate) fn begin_stop(&self) {
        self.signal(libc::SIGTERM);
    }

    /// The same, once no connection is busy: see [`Server::settle`].
    pub(crate) fn begin_stop_at_rest(&self) {
        self.settle();
        self.begin_stop();
    }

    /// Sends SIGTERM to a child, as httpd's parent does while one is on its way already.
    pub(crate) fn remind(&self, child: u32) {
        assert!(self.children().contains(&child), "the child is ours, and there");
        let pid = libc::pid_t::try_from(child).expect("a process id fits");
        // SAFETY: kill takes no pointers, and the parent has not reaped the child.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0, "the child takes SIGTERM");
    }

    /// Starts a graceful stop: requests that run may finish.
    pub(crate) fn begin_graceful_stop(&self) {
        self.signal(libc::SIGWINCH);
    }

    /// Waits for the end of a stop that was begun, and checks that it was a good one.
    pub(crate) fn ended(mut self) {
        self.wait_for_end();
        self.check_end();
    }

    /// The same, but a crash of a child is counted and returned instead.
    pub(crate) fn ended_or_crashed(mut self) -> usize {
        self.wait_for_end();
        let (crashes, bad): (Vec<_>, Vec<_>) =
            self.log().bad_ends().into_iter().partition(|line| line.contains("Segmentation fault"));
        assert!(bad.is_empty(), "children that ended badly:\n{}", bad.join("\n"));
        if !crashes.is_empty() {
            println!("a child has crashed; httpd's log:\n{}", self.log().text());
        }
        crashes.len()
    }

    /// The same, where httpd may have to remind a child, but not to kill it.
    pub(crate) fn ended_after_a_reminder(mut self) {
        self.wait_for_end();
        let bad = self.log().bad_ends();
        let bad: Vec<_> = bad.iter().filter(|line| !line.contains("sending a SIGTERM")).collect();
        assert!(bad.is_empty(), "children that ended badly: {bad:#?}");
    }

    /// Stops httpd and checks that it ended well: no child crashed and none had to be killed.
    pub(crate) fn stop(self) {
        self.begin_stop_at_rest();
        self.ended();
    }

    /// Waits, for a moment at most, until httpd has let go of connections that are over.
    ///
    /// Told to stop while it lets go of one, event MPM may crash by itself, without any module:
    /// `close_worker_sockets` uses sockets of connections that their threads are freeing (2.4.71,
    /// 5 of 100 stops under a load on static files; 0 of 200 on the worker MPM).
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        // A thread that has closed its socket is still busy with the connection's memory; one that
        // sleeps is not.
        let busy = || {
            let mut serving = self.own_children();
            if self.is_one_process() {
                serving.push(self.pid());
            }
            connections_held_at(self.port()) > 0 || !serving.into_iter().all(is_asleep)
        };
        while busy() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn launch(root: TempDir, conf: &Conf) -> Server {
        let port = hold_port();
        let text = conf.render(root.path(), port.number());
        let file = root.path().join("conf/httpd.conf");
        fs::write(&file, &text).expect("httpd.conf is written");
        let said = File::create(root.path().join("logs/said")).expect("a file for httpd's output");
        let mut command = conf.command();
        command
            .arg("-d")
            .arg(root.path())
            .arg("-f")
            .arg(&file)
            .args(["-D", "FOREGROUND"])
            .envs(conf.variables(root.path()))
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("the file is duplicated"))
            .stderr(said);
        let line = format!("{command:?}");
        let child = spawn(command).unwrap_or_else(|error| panic!("{line}: {error}"));
        let by_daemon = conf.by_daemon();
        Server {
            root,
            conf: text,
            command: line,
            child,
            port,
            ended: None,
            by_daemon,
            killed: false,
        }
    }

    /// Connected, or exited, or the deadline.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.has_ended() {
            // The line in our own log tells that what answers on the port is ours. As one process
            // httpd writes none.
            let sign = match self.is_one_process() {
                true => "main interpreter",
                false => "resuming normal operations",
            };
            if !self.log().lines_with(&[sign]).is_empty()
                && TcpStream::connect(self.address()).is_ok()
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Whether httpd serves in the process that was started, as by `httpd -X`.
    fn is_one_process(&self) -> bool {
        self.conf.contains("Define DEBUG")
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("httpd can be waited for");
        }
        self.ended.is_some()
    }

    fn signal(&self, signal: libc::c_int) {
        assert!(self.ended.is_none(), "httpd has ended already");
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: kill takes no pointers, and the child is ours and not reaped, so the id is its.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "httpd takes signal {signal}");
    }

    fn wait_for_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "httpd did not stop within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn check_end(&self) {
        let bad = self.log().bad_ends();
        assert!(bad.is_empty(), "children that ended badly:\n{}", bad.join("\n"));
        let status = self.ended.expect("httpd has ended");
        assert!(status.success(), "httpd ended with {status}");
    }

    fn said(&self) -> String {
        let said = fs::read(self.path("logs/said")).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn show(&self) {
        let log = self.log().text();
        let lines: Vec<_> = log.lines().collect();
        let shown = lines[lines.len().saturating_sub(300)..].join("\n");
        eprintln!("--- {}\n{}", self.path("conf/httpd.conf").display(), self.conf);
        eprintln!("--- {}\n{}", self.command, self.said());
        eprintln!("--- the last lines of its error log ({} in all)\n{shown}\n---", lines.len());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        if self.ended.is_some() {
            return;
        }
        self.settle();
        self.begin_stop();
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.ended.is_none() {
            let left = self.children();
            // Both are about a process that is ours; when they fail it has ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("httpd had to be killed; its children were {left:?}");
        }
        // Every test is also a test of the stop at its end.
        if !std::thread::panicking() && !self.killed {
            let mut problem = match self.ended {
                None => vec!["httpd did not stop".to_owned()],
                Some(_) => self.log().bad_ends(),
            };
            let sockets = fs::read_dir(self.path("run")).into_iter().flatten().flatten();
            problem.extend(sockets.map(|left| format!("{} is left", left.path().display())));
            if !problem.is_empty() {
                self.show();
                panic!("the stop after this test went wrong:\n{}", problem.join("\n"));
            }
        }
    }
}

/// Starts httpd where it does not start, in its server root, and returns that and all that it said.
pub(crate) fn fails_to_start(conf: &Conf) -> (TempDir, String) {
    let root = make_root();
    let file = root.path().join("conf/httpd.conf");
    let port = hold_port();
    fs::write(&file, conf.render(root.path(), port.number())).expect("httpd.conf is written");
    let mut command = conf.command();
    command.current_dir(root.path()).arg("-d").arg(root.path()).arg("-f").arg(&file);
    command.args(["-D", "FOREGROUND"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = spawn(command).expect("a shell");
    let ended = child.wait_with_output().expect("httpd is waited for");
    assert!(!ended.status.success(), "httpd ended with {}", ended.status);
    let log = ErrorLog::at(root.path().join("logs/error.log")).text();
    (root, log)
}

/// Waits until there is exactly one.
fn only(what: &str, all: impl Fn() -> Vec<u32>) -> u32 {
    eventually(&format!("exactly one {what}"), || match all()[..] {
        [one] => Some(one),
        _ => None,
    })
}

/// A server root with a copy of the applications, readable by everyone.
pub(super) fn make_root() -> TempDir {
    let root = tempfile::Builder::new().prefix("manifold-").tempdir().expect("a server root");
    open_to_all(root.path(), 0o755);
    for folder in ["conf", "logs", "run", "docs", "apps", "state"] {
        let path = root.path().join(folder);
        fs::create_dir(&path).expect("a folder of the server root");
        open_to_all(&path, if folder == "state" { 0o777 } else { 0o755 });
    }
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps");
    for entry in fs::read_dir(&apps).unwrap_or_else(|error| panic!("{}: {error}", apps.display())) {
        let from = entry.expect("an entry of tests/apps").path();
        if from.extension().is_some_and(|extension| extension == "wsgi") {
            let to = root.path().join("apps").join(from.file_name().expect("it has a name"));
            fs::copy(&from, &to).expect("an application is copied");
            open_to_all(&to, 0o644);
        }
    }
    root
}

/// Writes a file of a server root so that httpd's children may read it.
pub(crate) fn write(root: &Path, inside: &str, text: &str) {
    let path = root.join(inside);
    let folder = path.parent().expect("a path inside the server root");
    if !folder.exists() {
        fs::create_dir_all(folder).expect("a folder of the server root");
        open_to_all(folder, 0o755);
    }
    // An older file may be closed to us; a new one in its place never is.
    let _ = fs::remove_file(&path);
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    open_to_all(&path, 0o644);
}

pub(super) fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode is set");
}

fn hold_port() -> Port {
    Port::hold("127.0.0.1:0").expect("a free port on loopback")
}
