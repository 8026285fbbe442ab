//! What tests stand on that change the user, the environment or the file systems of a process: such a
//! test runs in a process of its own.

use super::{Id, Identity, ProcessGroup};
use crate::GroupName;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

/// Names the test that a process was started for, and the folder it may use.
const OWN_PROCESS: &str = "MANIFOLD_TEST_IN_ITS_OWN_PROCESS";
const FOLDER: &str = "MANIFOLD_TEST_FOLDER";

/// What a test says at its end in a process of its own, so that one which was not run at all does not
/// count as passed.
const DONE: &str = "every step was taken";

/// Runs the body of a test in a process of its own, by running this test once more in there, with a
/// folder that everyone may read. It has one thread, as a worker process has before Python starts:
/// otherwise glibc changes the user of all threads, and aborts where that goes well on some only.
pub(super) fn in_its_own_process<F: FnOnce(&Path)>(body: F) {
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = name.split_once("::").expect("a path");
    if std::env::var_os(OWN_PROCESS).is_some_and(|wanted| wanted == test) {
        with_one_thread(|| body(Path::new(&std::env::var_os(FOLDER).expect("a folder"))));
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let said = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(OWN_PROCESS, test)
        .env(FOLDER, folder.path())
        .output()
        .expect("a process");
    let [text, errors] =
        [said.stdout, said.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(said.status.success() && text.contains(DONE), "{}:\n{text}{errors}", said.status);
    // For the reasons of what is left out.
    text.lines().filter(|line| line.starts_with("left out")).for_each(|line| println!("{line}"));
}

/// Runs it in a fork of this process, which has a second thread: that of the test harness, which waits.
fn with_one_thread(body: impl FnOnce()) -> ! {
    // SAFETY: the other thread holds no lock while it waits for this one.
    let status = match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let went_well = catch_unwind(AssertUnwindSafe(body)).is_ok();
            if went_well {
                println!("{DONE}");
            }
            i32::from(!went_well)
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("it ends") {
            WaitStatus::Exited(_, status) => status,
            _ => 1,
        },
    };
    // SAFETY: it ends the process without a look at anything in it.
    unsafe { libc::_exit(status) }
}

/// The same for a test that needs root.
pub(super) fn as_root<F: FnOnce(&Path)>(body: F) {
    match geteuid().is_root() {
        true => in_its_own_process(body),
        false => println!("left out: it takes root to change the user"),
    }
}

/// A user that no system has, whom httpd's children run as in these tests.
pub(super) const USER: u32 = 47_110;

pub(super) fn id(number: u32) -> Id {
    Id { number, name: None }
}

/// A process group of which nothing is said.
pub(super) fn group() -> ProcessGroup {
    of(Identity::default())
}

/// A process group with this identity; the user and the group are httpd's where it names none.
pub(super) fn of(identity: Identity) -> ProcessGroup {
    let [user, group] =
        [identity.user, identity.group].map(|said| Some(said.unwrap_or_else(|| id(USER))));
    let identity = Identity { user, group, ..identity };
    ProcessGroup { identity, ..ProcessGroup::new(GroupName::new(b"workers")) }
}

/// Gives this process databases of users and groups of its own: a user `carol` with this home
/// directory, who is a member of three groups. `None` where that cannot be done here.
pub(super) fn with_carol(folder: &Path, home: &str) -> Option<Id> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
        println!("left out: no namespace of file systems can be made here ({error})");
        return None;
    }
    let bind = |name: &str, line: &str| {
        let (original, own) = (Path::new("/etc").join(name), folder.join(name));
        let mut text = fs::read_to_string(&original).expect("a database");
        text.push_str(line);
        fs::write(&own, text).expect("a file");
        mount(Some(&own), &original, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("a mount");
    };
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts of its own");
    bind("passwd", &format!("\ncarol:x:47111:47111::{home}:/bin/sh\n"));
    bind("group", "\none:x:47201:carol\ntwo:x:47202:dave,carol\nthree:x:47203:dave\n");
    Some(Id { number: 47_111, name: Some("carol".to_owned()) })
}
