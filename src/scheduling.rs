//! How threads that wait for an answer share the processors with those that compute it.
//!
//! A request thread that is told of its answer would take the processor from whoever has it: from an
//! interpreter's thread in the middle of the next request, say. With the policy `SCHED_BATCH` (sched(7)) it is next
//! instead. This saves the kernel's work and what the interrupted one has in its processor's caches, and whoever
//! computes keeps a processor for longer at a time. Nothing changes where a processor is idle.
//!
//! Threads that wait for requests, as the event MPM's listener, keep their policy: a request is taken up as soon as
//! ever. So do the interpreters' threads.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::thread::{SecureComputingMode, secure_computing_mode};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads of this process may choose a policy.
static MAY_CHOOSE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread has changed its policy, once it was to.
    static HAS_CHANGED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Finds out whether threads of this process may choose a policy; before, they do not. For a process's first thread,
/// since it may make a process for that.
pub fn prepare() {
    MAY_CHOOSE.store(may_choose(), Ordering::Relaxed);
}

/// The calling thread waits for answers from now on.
pub(crate) fn wait_behind_others() {
    HAS_CHANGED.with(|changed| {
        if changed.get().is_none() && MAY_CHOOSE.load(Ordering::Relaxed) {
            // SAFETY: it tells of the calling thread, and takes no pointer.
            let policy = unsafe { libc::sched_getscheduler(0) };
            // Somebody else's choice stays, and what is refused is not missed.
            changed.set(Some(policy == libc::SCHED_OTHER && choose(libc::SCHED_BATCH)));
        }
    });
}

/// What a thread does first that the calling one makes: it does not inherit what that has chosen for itself.
pub(crate) fn of_new_thread() -> impl FnOnce() + Send + 'static {
    let inherits = HAS_CHANGED.get() == Some(true);
    move || {
        if inherits {
            choose(libc::SCHED_OTHER);
        }
    }
}

fn choose(policy: libc::c_int) -> bool {
    // SAFETY: it has integers only, for which zero is a value, and the one that these policies take.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: it changes the calling thread only, and reads the structure.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// A seccomp filter may end a process for a system call, and those of services often do so for this one
/// (`SystemCallFilter=~@resources`). So where there is one, a process of its own tries it first.
fn may_choose() -> bool {
    match secure_computing_mode() {
        Ok(SecureComputingMode::Disabled) => true,
        Ok(_) => survives(|| choose(libc::SCHED_BATCH)),
        Err(_) => false,
    }
}

/// Whether a process lives on after this, and it was true. Only system calls may be made in it.
fn survives(try_it: fn() -> bool) -> bool {
    // SAFETY: the new process makes system calls only.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let status = i32::from(!try_it());
            // SAFETY: it ends the process, without what belongs to its parent.
            unsafe { libc::_exit(status) }
        }
        Ok(ForkResult::Parent { child }) => loop {
            match waitpid(child, None) {
                Err(nix::Error::EINTR) => {}
                ended => return matches!(ended, Ok(WaitStatus::Exited(_, 0))),
            }
        },
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn;

    fn policy() -> libc::c_int {
        // SAFETY: it tells of the calling thread, and takes no pointer.
        unsafe { libc::sched_getscheduler(0) }
    }

    fn in_a_thread<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        spawn("a thread".to_owned(), body).expect("a thread").join().expect("it ends")
    }

    #[test]
    fn who_waits_is_next_and_whom_it_starts_is_not_changed() {
        prepare();
        let may = in_a_thread(|| choose(libc::SCHED_BATCH));
        let found = in_a_thread(|| {
            wait_behind_others();
            (policy(), in_a_thread(policy))
        });
        let wanted = if may { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
        assert_eq!(found, (wanted, libc::SCHED_OTHER));
    }

    #[test]
    fn a_policy_that_somebody_chose_stays() {
        prepare();
        let found = in_a_thread(|| {
            choose(libc::SCHED_IDLE);
            let before = policy();
            wait_behind_others();
            (before, policy(), in_a_thread(policy))
        });
        assert_eq!((found.0, found.0), (found.1, found.2));
    }

    #[test]
    fn a_process_tries_what_may_end_it() {
        assert!(survives(|| true));
        assert!(!survives(|| false));
        assert!(!survives(|| {
            // SAFETY: it ends the process that was made for it.
            unsafe { libc::raise(libc::SIGKILL) };
            true
        }));
    }

    /// As systemd's `SystemCallFilter=~@resources` has it.
    fn forbid_policies() -> bool {
        let word = |code: u32, value: u32| libc::sock_filter {
            code: u16::try_from(code).expect("an instruction"),
            jt: 0,
            jf: 0,
            k: value,
        };
        let number = u32::try_from(libc::SYS_sched_setscheduler).expect("a system call");
        let mut filter = [
            // The number of the system call comes first in what a filter sees.
            word(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter {
                jf: 1,
                ..word(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number)
            },
            word(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS),
            word(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let length = u16::try_from(filter.len()).expect("four");
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        // SAFETY: the first takes numbers only, the second reads the program.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
                    == 0
        }
    }

    #[test]
    fn a_filter_that_ends_processes_is_found_out_by_a_process_of_its_own() {
        assert!(survives(|| forbid_policies() && !may_choose()), "this one goes on");
        assert!(!survives(|| forbid_policies() && choose(libc::SCHED_BATCH)), "the filter works");
    }
}
