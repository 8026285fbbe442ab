//! What the kernel says of a process: whether it lives, what memory it has, and which of its threads run.
#![forbid(unsafe_code)]

use rustix::process::{Pid, test_kill_process};
use std::sync::OnceLock;

/// Which of the fields behind a program's name in /proc/PID/stat is when it was born.
const BIRTH: usize = 19;

/// When this process was born, in ticks since the machine was; 0 where that cannot be known, as under
/// another root directory. For a process that has been forked for the last time.
pub(super) fn born() -> u64 {
    static BORN: OnceLock<u64> = OnceLock::new();
    *BORN.get_or_init(|| look(std::process::id()).map_or(0, |(born, _)| born))
}

/// Whether that process lives that was born then. Others can have the same number later.
pub(super) fn is_alive(number: u32, born: u64) -> bool {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return false };
    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    // Those of other users may not be shown.
    look(number).is_none_or(|(seen, ended)| !ended && (born == 0 || born == seen))
}

/// When a process was born, and whether it only waits to be seen to have ended.
fn look(number: u32) -> Option<(u64, bool)> {
    let text = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let mut fields = behind_name(&text)?;
    let ended = matches!(fields.next()?, "Z" | "X");
    Some((fields.nth(BIRTH - 1)?.parse().ok()?, ended))
}

/// The fields behind the program's name, which may hold anything. The first is the state.
fn behind_name(text: &str) -> Option<impl Iterator<Item = &str>> {
    Some(text.rsplit_once(')')?.1.split_ascii_whitespace())
}

/// Whether a thread of a process uses a processor, or would if one were free; `None` where that is not
/// shown.
pub(super) fn runs(process: u32, thread: u32) -> Option<bool> {
    let text = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/stat")).ok()?;
    Some(behind_name(&text)?.next()? == "R")
}

/// The bytes of a process that are in memory; `None` where that is not shown.
pub(super) fn resident(number: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{number}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended_and_is_no_other_of_the_same_number() {
        let me = std::process::id();
        assert!(born() > 0);
        assert!(is_alive(me, born()) && is_alive(me, 0));
        assert!(!is_alive(me, born() + 1), "another had that number");
        let mut other =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(is_alive(other.id(), 0));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!is_alive(other.id(), 0));
        assert!(!is_alive(0, 0) && !is_alive(u32::MAX, 0));
    }

    #[test]
    fn a_thread_that_computes_runs_and_one_that_waits_does_not() {
        let me = std::process::id();
        let this = rustix::thread::gettid().as_raw_pid().unsigned_abs();
        assert_eq!(runs(me, this), Some(true), "it is the one that asks");
        let (tell, told) = std::sync::mpsc::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_pid().unsigned_abs()).unwrap();
            finished.recv()
        });
        let number = told.recv().unwrap();
        while runs(me, number) != Some(false) {
            std::thread::yield_now();
        }
        finish.send(()).unwrap();
        other.join().unwrap().unwrap();
        assert_eq!(runs(me, u32::MAX), None);
    }

    #[test]
    fn memory_is_counted_in_bytes() {
        assert!(resident(std::process::id()).unwrap() > 1 << 20);
        assert_eq!(resident(u32::MAX), None);
    }
}
