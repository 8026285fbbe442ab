//! Processes of a test's servers: how they are started, and what the kernel says of them.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

/// Starts a process that ends with this one, however this one ends, so that an interrupted test
/// run leaves no server behind.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    // Linux sends the signal when the *thread* that forked ends, and tests' threads do: fork on
    // one that lives as long as the process.
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                // Whoever asked has panicked if nobody listens.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    // httpd may signal its whole process group, which must not be ours.
    command.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: end_with_parent makes one system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(end_with_parent);
    }
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers")
}

#[cfg(target_os = "linux")]
fn end_with_parent() -> io::Result<()> {
    // SAFETY: this option takes a signal's number and no pointer.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a process runs `manifold-worker`, whatever it calls itself.
fn is_worker(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.file_name().is_some_and(|name| name == "manifold-worker")
}

/// The children of a process, by its kernel's own account: those that are worker processes, or the others.
pub(super) fn children_of(parent: u32, workers: bool) -> Vec<u32> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").expect("these tests need /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // "pid (name) state ppid ...", where the name may contain anything.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((_, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let mut fields = rest.split_whitespace();
        let state = fields.next();
        if fields.next() == Some(&parent.to_string())
            && state != Some("Z")
            && is_worker(pid) == workers
        {
            children.push(pid);
        }
    }
    children
}

/// Whether no thread of a process runs or wants to; where `/proc` does not say, yes.
pub(super) fn is_asleep(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("S", |(_, rest)| &rest[..1]);
        matches!(state, "S" | "I" | "Z" | "X")
    })
}

/// Whether a process has ended, waited for or not.
pub(super) fn is_over(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// A descriptor, by its kernel's own account.
pub(crate) struct Descriptor {
    /// What it stands for.
    pub(crate) target: PathBuf,
    /// How long that is, in bytes.
    pub(crate) length: u64,
}

impl Descriptor {
    /// `None` where it was closed meanwhile.
    pub(super) fn of(path: &Path) -> Option<Descriptor> {
        let length = fs::metadata(path).ok()?.len();
        Some(Descriptor { target: fs::read_link(path).ok()?, length })
    }
}

/// How many connections to this port of ours some process still holds at httpd's end.
pub(super) fn connections_held_at(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let held = |line: &&str| {
        // "slot local_address remote_address state queues timer retransmits uid timeout inode ..."
        let fields: Vec<_> = line.split_whitespace().collect();
        let ours = fields.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}")));
        let listening = fields.get(3) == Some(&"0A");
        ours && !listening && fields.get(9) != Some(&"0")
    };
    table.lines().skip(1).filter(held).count()
}

/// The memory of a process that is in use, in KiB.
pub(crate) fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
