//! Who a process becomes is looked at from a program that it starts. Each test has a process of its
//! own, since what it does cannot be undone. Where the tests do not run as root, those that need it
//! say so and pass.

use super::*;
use crate::daemon::own_process::{USER, as_root, group, id, in_its_own_process, of, with_carol};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};
use std::fs;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn limited(resources: Resources) -> ProcessGroup {
    ProcessGroup { resources, ..group() }
}

/// Becomes that, which has to go well.
fn become_one_of(group: &ProcessGroup) -> Account {
    take_on(group, Some(USER)).expect("it is taken on")
}

/// Why that is refused.
fn refusal(group: &ProcessGroup) -> String {
    take_on(group, Some(USER)).expect_err("it is refused")
}

/// What a shell that this process starts says.
fn shell(command: &str) -> String {
    let said = Command::new("/bin/sh").args(["-c", command]).output().expect("a shell");
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).expect("text").trim_end().to_owned()
}

/// A line of /proc/self/status in a program that this process starts.
fn status(key: &str) -> Vec<String> {
    let text = shell("cat /proc/self/status");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.expect("its line").split_whitespace().map(str::to_owned).collect()
}

/// A limit of a program that this process starts: soft and hard.
fn limit(name: &str) -> Vec<String> {
    let text = shell("cat /proc/self/limits");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("its line");
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn seconds(number: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(number)
}

/// Takes a capability from this process, which stays root's.
fn give_up(capability: u32) {
    let header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: a header of version 3 and room for two sets of three words.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    assert_eq!(got, 0);
    sets[0] &= !(1 << capability);
    // SAFETY: see above; the sets were filled.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(set, 0);
}

#[test]
fn a_process_of_roots_becomes_its_user_altogether() {
    as_root(|_| {
        assert!(become_one_of(&group()).changed);
        let user = USER.to_string();
        assert_eq!(shell("id -u; id -g; id -G"), format!("{user}\n{user}\n{user}"));
        for key in ["Uid", "Gid"] {
            assert_eq!(status(key), texts([USER; 4]), "{key}");
        }
    });
}

#[test]
fn nothing_of_roots_privileges_is_left() {
    as_root(|_| {
        become_one_of(&group());
        for key in ["CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(key), ["0000000000000000"], "{key}");
        }
        assert!(setuid(Uid::from_raw(0)).is_err());
        assert!(setgid(Gid::from_raw(0)).is_err());
    });
}

#[test]
fn a_group_and_supplementary_groups_take_the_place_of_the_users() {
    as_root(|_| {
        become_one_of(&of(Identity {
            group: Some(id(47_300)),
            supplementary: Some(vec![47_301, 47_302]),
            ..Identity::default()
        }));
        assert_eq!(status("Gid"), texts([47_300; 4]));
        assert_eq!(shell("id -G"), "47300 47301 47302");
    });
}

#[test]
fn without_supplementary_groups_the_user_is_in_those_of_the_database() {
    as_root(|folder| {
        let Some(user) = with_carol(folder, "/") else { return };
        let group = Some(id(47_300));
        become_one_of(&of(Identity { user: Some(user), group, ..Identity::default() }));
        assert_eq!(status("Uid"), texts([47_111; 4]));
        assert_eq!(shell("id -G"), "47300 47201 47202");
    });
}

#[test]
fn a_user_that_is_not_the_servers_is_at_home() {
    as_root(|folder| {
        let home = folder.join("carol");
        fs::create_dir(&home).expect("a folder");
        let Some(user) = with_carol(folder, home.to_str().expect("text")) else { return };
        // By number only, as by user=#47111.
        become_one_of(&of(Identity { user: Some(id(user.number)), ..Identity::default() }));
        assert_eq!(shell("pwd"), home.to_str().expect("text"));
    });
}

#[test]
fn the_servers_user_stays_where_the_server_is() {
    as_root(|folder| {
        let home = folder.join("carol");
        fs::create_dir(&home).expect("a folder");
        let Some(user) = with_carol(folder, home.to_str().expect("text")) else { return };
        std::env::set_current_dir("/usr").expect("a directory");
        let number = user.number;
        let group = of(Identity { user: Some(user), ..Identity::default() });
        take_on(&group, Some(number)).expect("it is taken on");
        assert_eq!(shell("pwd"), "/usr");
    });
}

#[test]
fn what_needs_no_privilege_holds_without_root_too() {
    in_its_own_process(|folder| {
        if geteuid().is_root() {
            setuid(Uid::from_raw(USER)).expect("another user");
        }
        let before = shell("id -u; id -G");
        let mut group = of(Identity {
            user: Some(id(1)),
            group: Some(id(1)),
            supplementary: Some(vec![1]),
            chroot: Some("/usr".into()),
            home: Some(folder.into()),
            umask: Some(0o027),
        });
        group.resources =
            Resources { priority: Some(5), cpu_time: seconds(1000), ..Resources::default() };
        assert!(!become_one_of(&group).changed);
        assert_eq!(shell("id -u; id -G"), before);
        assert_eq!(shell("pwd; umask"), format!("{}\n0027", folder.display()));
        assert_eq!(shell("cut -d ' ' -f 19 /proc/self/stat"), "5");
        assert_eq!(limit("Max cpu time"), ["1000", "1006"]);
    });
}

#[test]
fn a_process_with_home_and_umask_is_there_and_makes_files_by_that() {
    as_root(|folder| {
        let home = Some(folder.into());
        become_one_of(&of(Identity { home, umask: Some(0o077), ..Identity::default() }));
        assert_eq!(shell("pwd; umask"), format!("{}\n0077", folder.display()));
    });
}

#[test]
fn a_root_directory_is_all_that_there_is_and_names_are_those_of_the_system() {
    as_root(|folder| {
        let root = folder.join("root");
        fs::create_dir_all(root.join("srv")).expect("folders");
        let Some(user) = with_carol(folder, "/srv") else { return };
        become_one_of(&of(Identity {
            user: Some(user),
            chroot: Some(root),
            ..Identity::default()
        }));
        // There is no shell to ask in there.
        assert_eq!(std::env::current_dir().expect("a directory"), Path::new("/srv"));
        let inside: Vec<_> = fs::read_dir("/").expect("it").map(|it| it.unwrap().path()).collect();
        assert_eq!(inside, [PathBuf::from("/srv")]);
        let groups = nix::unistd::getgroups().expect("groups");
        assert_eq!(groups.len(), 3, "{groups:?}");
        assert_eq!(geteuid().as_raw(), 47_111);
    });
}

#[test]
fn a_process_in_a_root_directory_is_at_its_root() {
    as_root(|folder| {
        std::env::set_current_dir("/usr").expect("a directory");
        become_one_of(&of(Identity { chroot: Some(folder.into()), ..Identity::default() }));
        assert_eq!(std::env::current_dir().expect("a directory"), Path::new("/"));
        assert_eq!(fs::read_dir("/").expect("it").count(), 0);
    });
}

#[test]
fn limits_are_those_of_the_options() {
    as_root(|_| {
        let mut group = limited(Resources {
            priority: Some(-3),
            cpu_time: seconds(1000),
            memory: seconds(8 << 30),
            virtual_memory: seconds(64 << 30),
        });
        group.timeouts.shutdown = Some(Duration::from_secs(7));
        become_one_of(&group);
        assert_eq!(limit("Max cpu time"), ["1000", "1008"]);
        assert_eq!(limit("Max data size"), texts([8_u64 << 30; 2]));
        assert_eq!(limit("Max address space"), texts([64_u64 << 30; 2]));
        assert_eq!(shell("cut -d ' ' -f 19 /proc/self/stat"), "-3");
    });
}

#[test]
fn without_a_limit_on_its_stop_a_process_has_none_on_the_cpu_time_of_that() {
    in_its_own_process(|_| {
        let hard = limit("Max cpu time").remove(1);
        let mut group = limited(Resources { cpu_time: seconds(1000), ..Resources::default() });
        group.timeouts.shutdown = None;
        become_one_of(&group);
        assert_eq!(limit("Max cpu time"), ["1000".to_owned(), hard]);
    });
}

#[test]
fn a_title_is_what_the_process_is_called() {
    in_its_own_process(|_| {
        become_one_of(&ProcessGroup { title: Some(b"(wsgi:workers)".to_vec()), ..group() });
        // Of the process itself: a program that it starts has its own.
        assert_eq!(fs::read_to_string("/proc/self/comm").expect("it"), "(wsgi:workers)\n");
    });
}

#[test]
fn root_is_refused() {
    as_root(|_| {
        let mut nobody = group();
        nobody.identity.user = None;
        for group in [of(Identity { user: Some(id(0)), ..Identity::default() }), nobody] {
            assert_eq!(
                refusal(&group),
                "process group 'workers': a worker process does not run as root; name a user by user="
            );
        }
    });
}

#[test]
fn privileges_that_can_be_taken_back_are_refused() {
    as_root(|_| {
        // SECBIT_NO_SETUID_FIXUP: a change of user takes no capability away.
        // SAFETY: it takes numbers only.
        if unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 1 << 2) } != 0 {
            return println!("left out: {}", io::Error::last_os_error());
        }
        assert_eq!(
            refusal(&group()),
            "process group 'workers': user=#47110: root's privileges do not go away for good; look \
             for securebits in what starts httpd"
        );
    });
}

/// CAP_SETGID, CAP_SETUID and CAP_SYS_CHROOT.
const CAPABILITIES: [u32; 3] = [6, 7, 18];

#[test]
fn a_change_of_group_or_user_that_the_system_refuses_is_said() {
    let changes =
        [("group", CAPABILITIES[0], "CAP_SETGID"), ("user", CAPABILITIES[1], "CAP_SETUID")];
    for (what, capability, name) in changes {
        as_root(|_| {
            give_up(capability);
            assert_eq!(
                refusal(&group()),
                format!(
                    "process group 'workers': {what}=#47110: Operation not permitted (os error 1); \
                     httpd's parent needs the capability {name}"
                )
            );
        });
    }
}

#[test]
fn more_groups_than_there_may_be_are_refused() {
    as_root(|_| {
        let supplementary = Some((0..65_536).collect());
        assert_eq!(
            refusal(&of(Identity { supplementary, ..Identity::default() })),
            "process group 'workers': 65537 groups are too many for the system; name fewer by \
             supplementary-groups="
        );
    });
}

#[test]
fn a_root_directory_that_is_not_there_or_not_allowed_is_refused() {
    as_root(|folder| {
        let chroot = |root: PathBuf| of(Identity { chroot: Some(root), ..Identity::default() });
        let missing = folder.join("missing");
        assert_eq!(
            refusal(&chroot(missing.clone())),
            format!(
                "process group 'workers': chroot={}: No such file or directory (os error 2); it has to \
                 be a directory that is there",
                missing.display()
            )
        );
        give_up(CAPABILITIES[2]);
        let why = refusal(&chroot(folder.into()));
        assert!(why.contains("Operation not permitted (os error 1)"), "{why}");
    });
}

#[test]
fn a_home_that_the_user_cannot_search_is_refused() {
    as_root(|folder| {
        let home = folder.join("closed");
        fs::create_dir(&home).expect("a folder");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("permissions");
        assert_eq!(
            refusal(&of(Identity { home: Some(home.clone()), ..Identity::default() })),
            format!(
                "process group 'workers': home={}: Permission denied (os error 13); say home= with a \
                 directory that user #47110 may search",
                home.display()
            )
        );
    });
}

#[test]
fn a_home_that_the_database_names_and_that_is_not_there_is_refused() {
    as_root(|folder| {
        let Some(user) = with_carol(folder, "/nonexistent") else { return };
        let chroot = Some(folder.into());
        assert_eq!(
            refusal(&of(Identity { user: Some(user), chroot, ..Identity::default() })),
            format!(
                "process group 'workers': the home directory of user carol, /nonexistent: No such file or \
                 directory (os error 2); say home= with a directory inside chroot={} that user carol may \
                 search",
                folder.display()
            )
        );
    });
}

#[test]
fn a_priority_above_the_servers_is_refused_without_root() {
    in_its_own_process(|_| {
        if geteuid().is_root() {
            setuid(Uid::from_raw(USER)).expect("another user");
        }
        let resources = Resources { priority: Some(-5), ..Resources::default() };
        assert_eq!(
            refusal(&limited(resources)),
            "process group 'workers': cpu-priority=-5: Permission denied (os error 13); less than \
             httpd's own takes root, say more"
        );
    });
}

#[test]
fn more_than_the_server_itself_may_use_is_refused() {
    in_its_own_process(|_| {
        let limit = Some(1 << 30);
        setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit }).expect("a limit");
        let resources = Resources { memory: seconds((1 << 30) + 1), ..Resources::default() };
        assert_eq!(
            refusal(&limited(resources)),
            "process group 'workers': memory-limit=1073741825: httpd itself is limited to 1073741824; say \
             less, or raise that (ulimit -H, or Limit...= in systemd's unit)"
        );
    });
}

#[test]
fn a_process_ends_with_its_parent_after_a_change_of_user() {
    as_root(|_| {
        // What has lost its parent comes to this process.
        set_child_subreaper(true).expect("it is set");
        let (mut told, mut tell) = io::pipe().expect("a pipe");
        // SAFETY: this process has one thread; and so below.
        let ForkResult::Parent { child: parent } = (unsafe { fork() }).expect("a process") else {
            let me = std::process::id();
            // SAFETY: see above.
            if let ForkResult::Child = (unsafe { fork() }).expect("a process") {
                become_one_of(&group());
                die_with_parent(me).expect("the parent is there");
                tell.write_all(&std::process::id().to_ne_bytes()).expect("it is written");
                loop {
                    nix::unistd::pause();
                }
            }
            loop {
                nix::unistd::pause();
            }
        };
        let mut number = [0; 4];
        told.read_exact(&mut number).expect("the process says who it is");
        kill(parent, Signal::SIGKILL).expect("the parent is there");
        // Once it has ended, its own have come here.
        waitpid(parent, None).expect("it ends");
        let child = Pid::from_raw(i32::from_ne_bytes(number));
        let ended = waitpid(child, None).expect("it ends");
        assert_eq!(ended, WaitStatus::Signaled(child, Signal::SIGTERM, false));
    });
}

#[test]
fn a_process_whose_parent_is_gone_learns_that() {
    in_its_own_process(|_| {
        let parent = getppid();
        assert_eq!(die_with_parent(parent.as_raw().cast_unsigned()), Ok(()));
        let gone = std::process::id();
        let expected = format!("httpd's parent ({gone}) is gone; {parent} is in its place");
        assert_eq!(die_with_parent(gone), Err(expected));
    });
}
