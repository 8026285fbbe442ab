//! What the module asks of the kernel's scheduler.

use std::fs;

use crate::harness::{Conf, Server};

/// The threads of a process, by name and policy.
fn threads(process: u32) -> Vec<(String, libc::c_int)> {
    let list = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    list.filter_map(|entry| {
        let path = entry.expect("a thread").path();
        let number = path.file_name()?.to_str()?.parse().ok()?;
        let name = fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
        // SAFETY: it tells of a thread, and takes no pointer.
        let policy = unsafe { libc::sched_getscheduler(number) };
        Some((name, policy))
    })
    .collect()
}

#[test]
fn httpds_threads_wait_behind_those_of_interpreters() {
    if !std::thread::spawn(can_choose).join().expect("it ends") {
        eprintln!("left out: a thread may not choose SCHED_BATCH here");
        return;
    }
    let server = Server::start(Conf::serving("hello.wsgi").threads(1));
    for _ in 0..4 {
        assert_eq!(server.get("/").status, 200);
    }
    let ours = |name: &str| name.starts_with("mnf-");
    let of_child = threads(server.only_own_child());
    let count =
        |policy| of_child.iter().filter(|thread| !ours(&thread.0) && thread.1 == policy).count();
    // The one that has served; not the listener, nor the one that waits for signals.
    assert_eq!([count(libc::SCHED_BATCH), count(libc::SCHED_OTHER)], [1, 2], "{of_child:?}");
    let mut interpreters = threads(server.only_child());
    interpreters.retain(|thread| ours(&thread.0));
    assert!(interpreters.iter().any(|thread| thread.0.starts_with("mnf-0-")), "{interpreters:?}");
    assert!(interpreters.iter().all(|thread| thread.1 == libc::SCHED_OTHER), "{interpreters:?}");
}

/// Whether a thread here may have the policy, as the calling one then has.
fn can_choose() -> bool {
    // SAFETY: it has integers only, for which zero is a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: it changes the calling thread only, and reads the structure.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) == 0 }
}
