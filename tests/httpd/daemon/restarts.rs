//! Restarts and the end of httpd: what becomes of worker processes, of requests and of sockets.

use super::{conf, process, serve, signal, sockets};
use crate::harness::{Load, Mode, Server, eventually};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn graceful_restarts_under_load_lose_no_request_and_leave_nothing_behind() {
    let server = Server::start(conf("processes=2").threads(16));
    let former = server.workers();
    let load = Load::start(server.address(), "/", 4, Mode::Close);
    for _ in 0..5 {
        load.goes_on(50);
        server.graceful();
    }
    load.goes_on(50);
    let tally = load.finish();
    assert_eq!(tally.failures, Vec::<String>::new());
    eventually("the old processes are gone", || {
        let now = server.workers();
        Some(()).filter(|()| now.len() == 2 && !now.iter().any(|one| former.contains(one)))
    });
    eventually("their sockets are gone", || Some(()).filter(|()| sockets(&server).len() == 2));
    server.stop();
}

#[test]
fn a_request_under_way_at_a_graceful_restart_is_finished_by_the_old_process() {
    let server = serve("");
    let former = process(&server);
    let (mut client, gate) = server.hold("/held");
    server.graceful();
    assert_ne!(process(&server), former, "a new one serves at once");
    assert!(server.workers().contains(&former));
    gate.open();
    client.read("GET").expect(200, &format!("{former} 0"));
    eventually("the old one goes", || Some(()).filter(|()| !server.workers().contains(&former)));
}

#[test]
fn a_process_that_still_drains_ends_when_httpd_does() {
    let server = serve("");
    process(&server);
    let (mut client, gate) = server.hold("/held");
    server.graceful();
    server.begin_stop();
    // httpd waits for a client that does not go.
    assert_eq!(client.read("GET").status, 502);
    drop(client);
    // The file stays for as long as anybody serves.
    eventually("nothing is left", || Some(()).filter(|()| server.workers().is_empty()));
    drop(gate);
}

#[test]
fn no_process_outlives_an_httpd_that_was_killed() {
    let server = serve("");
    let worker = process(&server);
    let children = server.own_children();
    server.kill();
    eventually("the worker is gone", || {
        Some(()).filter(|()| !std::path::Path::new(&format!("/proc/{worker}")).exists())
    });
    // httpd's own do not end by themselves.
    children.into_iter().for_each(|child| signal(child, libc::SIGKILL));
}

#[test]
fn only_httpds_user_may_connect() {
    let server = serve("");
    process(&server);
    let [socket] = &sockets(&server)[..] else { panic!("one socket") };
    let name = socket.file_name().expect("a name").to_string_lossy().into_owned();
    let parts: Vec<_> = name.split('.').collect();
    assert_eq!((parts[0], &parts[2..]), ("wsgi", &["0", "1", "sock"][..]), "{name}");
    let metadata = std::fs::metadata(socket).expect("the socket");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    let child = std::fs::metadata(format!("/proc/{}", server.own_children()[0])).expect("a child");
    assert_eq!(metadata.uid(), child.uid(), "it belongs to whom httpd's children run as");
}

#[test]
fn without_rotation_the_socket_keeps_its_name() {
    let server = Server::start(conf("").and("WSGISocketRotation Off"));
    process(&server);
    let before = sockets(&server);
    server.graceful();
    process(&server);
    eventually("the old process goes", || Some(()).filter(|()| server.workers().len() == 1));
    assert_eq!(sockets(&server), before);
    process(&server);
}

#[test]
fn httpds_own_processes_start_no_python_as_long_as_nothing_needs_it() {
    let server = serve("");
    let worker = process(&server);
    let lines = server.log().lines_with(&["main interpreter"]);
    assert!(lines.iter().all(|line| line.contains(&format!("[pid {worker}:"))), "{lines:#?}");
    assert!(!lines.is_empty());
}

#[test]
fn a_worker_inherits_nothing_but_its_log() {
    let server = serve("");
    let worker = process(&server);
    let mut left = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{worker}/fd")).expect("descriptors").flatten() {
        let number: u32 = entry.file_name().to_string_lossy().parse().expect("a number");
        let what = std::fs::read_link(entry.path()).unwrap_or_default();
        let what = what.to_string_lossy().into_owned();
        let own = ["anon_inode:", "socket:", "pipe:"].iter().any(|kind| what.starts_with(kind));
        if number > 2 && !own && !what.contains("python") {
            left.push(what);
        }
    }
    assert_eq!(left, Vec::<String>::new());
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("its status");
    let blocked = status.lines().find(|line| line.starts_with("SigBlk:")).expect("a mask");
    assert!(blocked.ends_with("0000000000000000"), "{blocked}");
}
