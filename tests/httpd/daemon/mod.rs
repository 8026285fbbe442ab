//! Process groups: worker processes, how they live, and what clients see when they fail.

mod chroot;
mod descriptors;
mod encodings;
mod faults;
mod life;
mod peers;
mod pythons;
mod restarts;
mod starting;

use crate::harness::{Conf, Server, eventually};
use std::path::PathBuf;

/// A configuration with process groups of its own, and no other.
fn groups(text: &str) -> Conf {
    Conf::new(text).inside_httpd("it says itself what runs where")
}

/// `worker.wsgi` for every URL, in the process group `shop` with these options.
fn conf(options: &str) -> Conf {
    groups(&format!(
        "WSGIDaemonProcess shop {options}\n\
         WSGIScriptAlias / ${{APPS}}/worker.wsgi process-group=shop application-group=shop\n\
         <Location />\nRequire all granted\n</Location>"
    ))
}

fn serve(options: &str) -> Server {
    Server::start(conf(options))
}

/// The process that answers.
fn process(server: &Server) -> u32 {
    let answer = server.get("/");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("X-Process").and_then(|id| id.parse().ok()).expect("a process id")
}

fn signal(process: u32, signal: i32) {
    let process = libc::pid_t::try_from(process).expect("a process id fits");
    // SAFETY: kill takes no pointers; the process is a worker of this test's server.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0, "it takes the signal");
}

/// Has a process stand still; returns when all its threads do, which takes a moment.
fn halt(process: u32) {
    signal(process, libc::SIGSTOP);
    eventually("it stands still", || {
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let stands = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        threads.flatten().all(stands).then_some(())
    });
}

/// How many connections there are to the sockets of workers, by the kernel's own account.
fn connections(server: &Server) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("these tests need /proc");
    let run = server.path("run").display().to_string();
    // The one that listens has flag 00010000.
    sockets.lines().filter(|line| line.contains(&run) && !line.contains(" 00010000 ")).count()
}

/// The sockets of worker processes that are there.
fn sockets(server: &Server) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.path("run")).expect("the folder of run time");
    let mut sockets: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    sockets.retain(|path| path.extension().is_some_and(|end| end == "sock"));
    sockets
}
