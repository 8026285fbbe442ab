//! A worker process that a test has started in httpd's place, and whose secret it knows.

use crate::harness::{Folder, settings};
use crate::peer::{self, PROTOCOL, Peer};
use manifold::GroupName;
use manifold::daemon::{Id, Orders, ProcessGroup, descriptor};
use std::ffi::CStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const SECRET: [u8; 32] = *b"what only httpd and worker know.";

/// A deadline, never a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Worker {
    folder: Folder,
    process: Child,
    /// With its end, so ends the process.
    _lifeline: OwnedFd,
    /// What refused connections wait at, were the process gone.
    _listener: UnixListener,
    pub(crate) script: PathBuf,
}

impl Worker {
    /// A process that takes so many connections and serves this application.
    pub(crate) fn start(connections: usize, application: &str) -> Self {
        let folder = Folder::new();
        let script = Arc::clone(&folder.script("app.wsgi", application)).path().to_owned();
        for (path, mode) in [(folder.path(), 0o755), (&*script, 0o644)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("others may read it");
        }
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket");
        listener.set_nonblocking(true).expect("it does not block");
        let (wait, hold) = std::io::pipe().expect("a pipe");
        let orders = in_memory(&orders(connections).encode());
        let said = File::create(folder.path().join("said")).expect("a file");
        let wanted = [
            (high(&orders), descriptor::ORDERS),
            (high(&listener), descriptor::LISTENER),
            (high(&wait), descriptor::LIFELINE),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_manifold-worker"));
        command.arg("--serve").stdin(Stdio::null()).stderr(said);
        let prepare = move || {
            for (from, to) in &wanted {
                // SAFETY: both are numbers, and this process is about to become another program.
                if unsafe { libc::dup2(from.as_raw_fd(), *to) } == -1 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: it makes system calls only, which is allowed between fork and exec.
        unsafe { command.pre_exec(prepare) };
        let process = command.spawn().expect("the worker");
        Self { folder, process, _lifeline: hold.into(), _listener: listener, script }
    }

    /// A connection that has said nothing.
    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(&self.folder.path().join("socket"))
    }

    /// A connection that has said who it is.
    pub(crate) fn known(&self) -> Peer {
        let mut peer = self.peer();
        peer.say_with(&peer::hello(PROTOCOL, SECRET), peer::page().as_fd());
        assert_eq!(peer.hear(), Some((peer::WELCOME, Vec::new())));
        peer
    }

    /// A request for a path, as bytes.
    pub(crate) fn request(&self, path: &str) -> Vec<u8> {
        peer::request(&self.script, None, &get(path))
    }

    /// One that has to end within that time.
    pub(crate) fn request_within(&self, limit: Duration, path: &str) -> Vec<u8> {
        peer::request(&self.script, Some(limit), &get(path))
    }

    /// Lines of its log that contain this.
    pub(crate) fn lines_with(&self, what: &str) -> Vec<String> {
        let text = self.folder.text("said").expect("its log");
        text.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
    }

    /// Waits for that many of them.
    pub(crate) fn wait_for_lines(&self, what: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines_with(what) {
                lines if lines.len() >= count => return lines,
                _ if Instant::now() >= deadline => panic!("no {count} lines with {what}"),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// It ends as it should, and has not panicked; what it has said is shown where a test fails.
impl Drop for Worker {
    fn drop(&mut self) {
        let pid = libc::pid_t::try_from(self.process.id()).expect("a process id fits");
        // SAFETY: kill takes no pointers, and the child is not reaped, so the number is its.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.process.try_wait().expect("its status") {
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                status => break status,
            }
        };
        if status.is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        let said = self.folder.text("said").unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("--- what the worker has said\n{said}---");
            return;
        }
        assert!(status.is_some_and(|status| status.success()), "{status:?}:\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

fn get(path: &str) -> [(&str, &str); 3] {
    [("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", ""), ("PATH_INFO", path)]
}

/// What it is told.
fn orders(connections: usize) -> Orders {
    let mut group = ProcessGroup::new(GroupName::new(b"shop"));
    // As root it has to become somebody; otherwise this is not looked at.
    let nobody = Id { number: 65_534, name: None };
    (group.identity.user, group.identity.group) = (Some(nobody.clone()), Some(nobody));
    group.identity.home = Some("/".into());
    Orders {
        group,
        settings: settings(),
        secret: SECRET,
        connections,
        server_user: None,
        parent: std::process::id(),
        pause: Duration::ZERO,
        preloads: Vec::new(),
        seen: Vec::new(),
    }
}

/// The same descriptor, out of the way of the numbers that they are to have.
fn high(descriptor: impl AsFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(descriptor, 16).expect("a descriptor")
}

fn in_memory(content: &[u8]) -> File {
    let name: &CStr = c"orders";
    let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(file.expect("a file in memory"));
    file.write_all(content).expect("it takes them");
    file.rewind().expect("it can be read again");
    file
}
