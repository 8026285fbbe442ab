//! Who a worker process is, where, and what it may use. All of it happens before Python starts, while
//! the process has one thread: these are properties of threads in Linux.
//!
//! What it takes root's privileges for is done only where httpd's parent has them: otherwise a
//! worker process is who that is.

use super::{Id, Identity, ProcessGroup, Resources, Timeouts};
use nix::errno::Errno;
use nix::unistd::{
    Gid, ResUid, Uid, User, geteuid, getgrouplist, getresuid, setgid, setgroups, setuid,
};
use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, setrlimit};
use std::ffi::CString;
use std::io;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Who a worker process has become.
#[derive(Debug)]
pub(crate) struct Account {
    /// What the system's database of users says about it.
    pub(crate) entry: Option<User>,
    /// It is not who has started it.
    pub(crate) changed: bool,
}

/// Becomes who a process of this group is, and takes its limits. `server_user` is whom the server's own
/// processes run as.
///
/// # Errors
///
/// What could not be done, and what there is to do about it. The process must not go on: it may be
/// half of what it should be.
pub(crate) fn take_on(group: &ProcessGroup, server_user: Option<u32>) -> Result<Account, String> {
    become_user(group, server_user).map_err(|why| format!("process group '{}': {why}", group.name))
}

/// Has the process end by SIGTERM when its parent, which is this one, has ended. Only after
/// [`take_on`]: a change of user makes the system forget it.
///
/// # Errors
///
/// The parent is gone already.
pub(crate) fn die_with_parent(parent: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| format!("the end of httpd's parent cannot be noticed: {error}"))?;
    // It may have ended before that was asked for.
    match getppid().map_or(0, Pid::as_raw_pid) {
        now if now.cast_unsigned() == parent => Ok(()),
        now => Err(format!("httpd's parent ({parent}) is gone; {now} is in its place")),
    }
}

fn become_user(group: &ProcessGroup, server_user: Option<u32>) -> Result<Account, String> {
    let ProcessGroup { identity, resources, timeouts, .. } = group;
    if let Some(title) = group.title.as_ref().and_then(|title| CString::new(&title[..]).ok()) {
        // It shows in lists of processes, and nothing depends on it.
        let _ = rustix::thread::set_name(&title);
    }
    set_priority(resources)?;
    let account = match geteuid() {
        root if root.is_root() => change_user(identity)?,
        me => Account { entry: entry(&Id { number: me.as_raw(), name: None })?, changed: false },
    };
    change_directory(identity, server_user, &account)?;
    if let Some(mask) = identity.umask {
        rustix::process::umask(Mode::from_bits_truncate(mask));
    }
    set_limits(resources, timeouts)?;
    Ok(account)
}

/// Gives root's privileges up for good.
fn change_user(identity: &Identity) -> Result<Account, String> {
    let (user, group) = match (&identity.user, &identity.group) {
        (Some(user), Some(group)) if user.number != 0 => (user, group),
        _ => return Err("a worker process does not run as root; name a user by user=".to_owned()),
    };
    // Asked before the root directory changes: names are those of the system, not of a directory
    // that may have no database of them.
    let entry = entry(user)?;
    let groups = groups(identity, user, group, entry.as_ref())?;
    if let Some(root) = &identity.chroot {
        change_root(root)?;
    }
    let needs = |option: String, error: Errno, capability: &str| {
        let error = io::Error::from(error);
        format!("{option}: {error}; httpd's parent needs the capability {capability}")
    };
    let (uid, gid) = (Uid::from_raw(user.number), Gid::from_raw(group.number));
    setgid(gid).map_err(|error| needs(format!("group={group}"), error, "CAP_SETGID"))?;
    setgroups(&groups).map_err(|error| match error {
        Errno::EINVAL => format!(
            "{} groups are too many for the system; name fewer by supplementary-groups=",
            groups.len()
        ),
        _ => needs(format!("the groups of user={user}"), error, "CAP_SETGID"),
    })?;
    setuid(uid).map_err(|error| needs(format!("user={user}"), error, "CAP_SETUID"))?;
    let everywhere = ResUid { real: uid, effective: uid, saved: uid };
    if getresuid() != Ok(everywhere) || setuid(Uid::from_raw(0)).is_ok() {
        let cure = "look for securebits in what starts httpd";
        return Err(format!("user={user}: root's privileges do not go away for good; {cure}"));
    }
    Ok(Account { entry, changed: true })
}

/// The groups that the process is in: its own, and those that are given or else the user's.
fn groups(
    identity: &Identity,
    user: &Id,
    group: &Id,
    entry: Option<&User>,
) -> Result<Vec<Gid>, String> {
    let own = Gid::from_raw(group.number);
    if let Some(given) = &identity.supplementary {
        return Ok([own].into_iter().chain(given.iter().copied().map(Gid::from_raw)).collect());
    }
    let name = user.name.as_ref().or_else(|| entry.map(|entry| &entry.name));
    let Some(name) = name.and_then(|name| CString::new(&name[..]).ok()) else {
        return Ok(vec![own]);
    };
    getgrouplist(&name, own).map_err(|error| {
        let error = io::Error::from(error);
        format!("the groups of user {user} cannot be found out: {error}")
    })
}

fn change_root(root: &Path) -> Result<(), String> {
    let refused = |error| {
        format!("chroot={}: {error}; it has to be a directory that is there", root.display())
    };
    std::os::unix::fs::chroot(root).map_err(refused)?;
    std::env::set_current_dir("/").map_err(refused)
}

/// Goes to the directory that is configured; otherwise home, if the user is not the server's.
fn change_directory(
    identity: &Identity,
    server_user: Option<u32>,
    account: &Account,
) -> Result<(), String> {
    let entry = account.entry.as_ref().filter(|_| account.changed);
    let other = entry.filter(|entry| server_user != Some(entry.uid.as_raw()));
    let (directory, what) = match (&identity.home, other) {
        (Some(home), _) => (home, "home=".to_owned()),
        (None, Some(entry)) => (&entry.dir, format!("the home directory of user {}, ", entry.name)),
        (None, None) => return Ok(()),
    };
    std::env::set_current_dir(directory).map_err(|error| {
        let inside = match &identity.chroot {
            Some(root) if account.changed => format!(" inside chroot={}", root.display()),
            _ => String::new(),
        };
        let user = match &account.entry {
            Some(entry) => entry.name.clone(),
            None => format!("#{}", geteuid()),
        };
        format!(
            "{what}{}: {error}; say home= with a directory{inside} that user {user} may search",
            directory.display()
        )
    })
}

fn set_priority(resources: &Resources) -> Result<(), String> {
    let Some(priority) = resources.priority else { return Ok(()) };
    rustix::process::setpriority_process(None, priority).map_err(|error| {
        format!("cpu-priority={priority}: {error}; less than httpd's own takes root, say more")
    })
}

fn set_limits(resources: &Resources, timeouts: &Timeouts) -> Result<(), String> {
    if let Some(seconds) = resources.cpu_time {
        // SIGXCPU asks it to go; the system ends it where it does not.
        let grace = timeouts.shutdown.map(|shutdown| shutdown.as_secs().saturating_add(1));
        let hard = grace.map(|grace| seconds.get().saturating_add(grace));
        set_limit(Resource::Cpu, "cpu-time-limit", seconds.get(), hard)?;
    }
    if let Some(bytes) = resources.memory {
        set_limit(Resource::Data, "memory-limit", bytes.get(), Some(bytes.get()))?;
    }
    if let Some(bytes) = resources.virtual_memory {
        set_limit(Resource::As, "virtual-memory-limit", bytes.get(), Some(bytes.get()))?;
    }
    Ok(())
}

/// Sets a limit. A lower hard one than asked for stays as it is: only root may raise it.
fn set_limit(which: Resource, option: &str, soft: u64, hard: Option<u64>) -> Result<(), String> {
    let most = getrlimit(which).maximum;
    if let Some(most) = most.filter(|most| *most < soft) {
        return Err(format!(
            "{option}={soft}: httpd itself is limited to {most}; say less, or raise that (ulimit -H, or \
             Limit...= in systemd's unit)"
        ));
    }
    let maximum = [hard, most].into_iter().flatten().min();
    setrlimit(which, Rlimit { current: Some(soft), maximum })
        .map_err(|error| format!("{option}={soft}: {error}"))
}

/// What the system's database of users says about one.
fn entry(user: &Id) -> Result<Option<User>, String> {
    let unknown = |error| {
        let error = io::Error::from(error);
        format!("the database of users has no answer about user {user}: {error}")
    };
    // Several names may have one number.
    let by_name = match &user.name {
        Some(name) => User::from_name(name).map_err(unknown)?,
        None => None,
    };
    match by_name.filter(|entry| entry.uid.as_raw() == user.number) {
        Some(entry) => Ok(Some(entry)),
        None => User::from_uid(Uid::from_raw(user.number)).map_err(unknown),
    }
}
