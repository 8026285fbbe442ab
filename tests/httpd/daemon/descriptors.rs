//! The limit on open files: raised where it can be, and said where it is too low.

use super::{conf, process};
use crate::harness::{Request, Server, eventually};

/// Sets the limit on open files of httpd's parent, and has all its processes started anew with that.
fn limit(server: &Server, soft: u64, hard: Option<u64>) {
    let parent = libc::pid_t::try_from(server.pid()).expect("a process id fits");
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the process is httpd's, not reaped yet; the place is filled.
    let read =
        unsafe { libc::prlimit(parent, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) };
    assert_eq!(read, 0, "its limit");
    limit.rlim_cur = soft;
    limit.rlim_max = hard.unwrap_or(limit.rlim_max);
    // SAFETY: see above; the limit is read.
    let set = unsafe {
        libc::prlimit(parent, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut())
    };
    assert_eq!(set, 0, "a lower limit");
    let former = process(server);
    server.graceful();
    eventually("a new process", || Some(()).filter(|()| process(server) != former));
}

/// The soft limit of a process.
fn soft_limit(process: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_whitespace().nth(3).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_low_soft_limit_is_raised_to_what_connections_may_need() {
    const CLIENTS: u32 = 60;
    let server = Server::start(conf(&format!("threads={CLIENTS}")).threads(CLIENTS));
    limit(&server, 100, None);
    let gate = server.gate("held");
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = server.client();
            client.send_head(&Request::get("/held"));
            client
        })
        .collect();
    eventually("as many connections", || {
        Some(()).filter(|()| super::connections(&server) >= CLIENTS as usize)
    });
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read("GET").status, 200);
    }
    for process in [process(&server), server.own_children()[0]] {
        assert!(soft_limit(process) > 2 * u64::from(CLIENTS), "{}", soft_limit(process));
    }
    assert_eq!(server.log().lines_with(&["MNF0050"]), Vec::<String>::new());
}

#[test]
fn a_hard_limit_that_is_too_low_is_said_and_requests_are_served() {
    let server = Server::start(conf("threads=8"));
    limit(&server, 200, Some(200));
    for whose in
        ["a worker process of process group 'shop' may have 200", "a child of httpd may have 200"]
    {
        server.log().wait_for(&[":warn]", "MNF0050", whose, "ulimit -H -n"]);
    }
    let statuses =
        crate::harness::at_once(8, |_| (0..10).map(|_| server.get("/").status).collect::<Vec<_>>());
    assert!(statuses.iter().flatten().all(|status| *status == 200), "{statuses:?}");
}
