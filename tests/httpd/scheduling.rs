//! What the module asks of the kernel's scheduler.

use std::fs;
use std::mem;

use crate::harness::{Server, eventually};

/// The time slice of a thread, in nanoseconds: 0 where the kernel knows of none, nothing where the thread has gone.
fn slice(thread: u32) -> Option<u64> {
    // SAFETY: it has integers only, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = size_of_val(&attributes);
    // SAFETY: it writes to the structure, and not more than `size`.
    let found =
        unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut attributes, size, 0) };
    (found == 0).then_some(attributes.sched_runtime)
}

fn threads(process: u32) -> Vec<u32> {
    let list = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    list.map(|entry| entry.expect("a thread").file_name())
        .filter_map(|name| name.to_str().and_then(|name| name.parse().ok()))
        .collect()
}

#[test]
fn all_threads_of_processes_that_serve_have_short_slices() {
    let server = Server::serving("hello.wsgi");
    assert_eq!(server.get("/").status, 200);
    let usual = slice(server.pid()).expect("httpd runs");
    if usual == 0 {
        eprintln!(
            "left out: this kernel has no slices of a thread's own (Linux 6.12 and later has)"
        );
        return;
    }
    let status = fs::read_to_string("/proc/self/status").expect("these tests need /proc");
    let is_filtered = !status.lines().any(|line| line == "Seccomp:\t0");
    let wanted = if is_filtered { usual } else { usual.min(1_000_000) };
    for process in server.own_children().into_iter().chain(server.workers()) {
        let threads = eventually("its threads", || {
            let threads = threads(process);
            (threads.len() > 2).then_some(threads)
        });
        let slices: Vec<_> = threads.into_iter().filter_map(slice).collect();
        assert!(slices.iter().all(|slice| *slice == wanted), "{slices:?}, not {wanted}");
    }
    assert_eq!(slice(server.pid()), Some(usual), "httpd's parent serves nobody");
}
