//! Whom httpd's children run as, and what that user can read.

use crate::failure::{During as _, Outcome, fail};
use nix::sys::wait::waitpid;
use nix::unistd::{self, AccessFlags, ForkResult, Gid, Uid};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who usually is httpd's user, by distribution.
const USUAL: [&str; 5] = ["www-data", "apache", "_www", "daemon", "nobody"];

/// An unprivileged user, whom root's httpd becomes.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) group: String,
    uid: Uid,
    gid: Gid,
}

impl User {
    /// The user and the group of these names or, without, a usual one. `None` for an ordinary user, whose
    /// httpd can become nobody else.
    pub(crate) fn choose(name: Option<&str>, group: Option<&str>) -> Outcome<Option<Self>> {
        if !Uid::effective().is_root() {
            return match name.or(group) {
                None => Ok(None),
                Some(name) => {
                    let own = unistd::User::from_uid(Uid::effective()).ok().flatten();
                    if group.is_none() && own.is_some_and(|own| own.name == name) {
                        return Ok(None);
                    }
                    fail(format!(
                        "--user and --group ({name}) need root: only root's httpd can become another \
                         user. Leave them out to serve as yourself"
                    ))
                }
            };
        }
        let variable = std::env::var("MANIFOLD_USER").ok().filter(|name| !name.is_empty());
        let name = name.or(variable.as_deref());
        let candidates = name.map_or(&USUAL[..], |_| &[]).iter().copied().chain(name);
        let found =
            candidates.filter_map(|name| unistd::User::from_name(name).ok().flatten()).next();
        let Some(user) = found else {
            return match name {
                Some(name) => fail(format!("--user {name}: there is no such user")),
                None => fail(format!(
                    "httpd's children need an unprivileged user, and none of {} is there: name one by --user",
                    USUAL.join(", ")
                )),
            };
        };
        if user.uid.is_root() {
            return fail("--user root: httpd refuses to serve as root; name an unprivileged user");
        }
        let group = match group {
            Some(name) => match unistd::Group::from_name(name).ok().flatten() {
                Some(group) => group,
                None => return fail(format!("--group {name}: there is no such group")),
            },
            None => match unistd::Group::from_gid(user.gid).ok().flatten() {
                Some(group) => group,
                None => {
                    let name = user.name;
                    return fail(format!("the user {name} has no group of a name: use --group"));
                }
            },
        };
        Ok(Some(Self { name: user.name, group: group.name, uid: user.uid, gid: group.gid }))
    }

    /// Becomes this user, for good.
    fn become_it(&self) -> nix::Result<()> {
        let name = std::ffi::CString::new(self.name.as_str()).unwrap_or_default();
        unistd::initgroups(&name, self.gid)?;
        unistd::setgid(self.gid)?;
        unistd::setuid(self.uid)
    }

    /// Has a command run as this user.
    pub(crate) fn runs(&self, command: &mut Command) {
        let user = self.clone();
        // SAFETY: the process has one thread where commands are run as somebody else, so the copy of it
        // may allocate between fork and exec.
        unsafe {
            command.pre_exec(move || user.become_it().map_err(Into::into));
        }
    }
}

/// How a user is called in messages.
pub(crate) fn called(user: Option<&User>) -> &str {
    user.map_or("you", |user| &user.name)
}

/// What is to be done with a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Read it; of a folder also what is in it.
    Read,
    /// Run it or, of a folder, reach what is in it by its name.
    Pass,
    /// Make files in a folder.
    Fill,
}

/// The first component of one of these paths that keeps the user from reading it; see [`obstacle_to`].
pub(crate) fn obstacle(user: Option<&User>, paths: &[&Path]) -> Outcome<Option<String>> {
    obstacle_to(Use::Read, user, paths)
}

/// The first component of one of these paths that keeps the user from using it, with its mode; `None` for the
/// user means whoever runs this. The kernel is asked, so that groups, access lists and capabilities count.
pub(crate) fn obstacle_to(
    what: Use,
    user: Option<&User>,
    paths: &[&Path],
) -> Outcome<Option<String>> {
    let look = || paths.iter().find_map(|path| obstacle_on(what, path));
    let Some(user) = user else { return Ok(look()) };
    let (reader, writer) = unistd::pipe().during(|| "no pipe".to_owned())?;
    // SAFETY: the process has one thread so far, so its copy may do anything.
    match unsafe { unistd::fork() }.during(|| "no process for a look".to_owned())? {
        ForkResult::Child => {
            let said = match user.become_it() {
                Ok(()) => look().unwrap_or_default(),
                Err(error) => format!("{}, whom this cannot become ({error})", user.name),
            };
            let written = File::from(writer).write_all(said.as_bytes());
            // Neither destructors nor buffers of the parent's are this process's to run.
            // SAFETY: it ends the process.
            unsafe { nix::libc::_exit(i32::from(written.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut said = String::new();
            let read = File::from(reader).read_to_string(&mut said);
            let _ = waitpid(child, None);
            read.during(|| "the look has no answer".to_owned())?;
            Ok((!said.is_empty()).then_some(said))
        }
    }
}

fn obstacle_on(what: Use, path: &Path) -> Option<String> {
    // A path that goes through links is walked as it is written and as it ends up.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    [path.to_owned(), real].iter().find_map(|path| {
        let folders = path.ancestors().skip(1).map(|folder| (folder, AccessFlags::X_OK));
        let last = match what {
            Use::Read if path.is_dir() => AccessFlags::R_OK | AccessFlags::X_OK,
            Use::Read => AccessFlags::R_OK,
            Use::Pass => AccessFlags::X_OK,
            Use::Fill => AccessFlags::W_OK | AccessFlags::X_OK,
        };
        let walk: Vec<_> = [(path.as_path(), last)].into_iter().chain(folders).collect();
        let refused = |(part, need): &(&Path, AccessFlags)| unistd::access(*part, *need).is_err();
        let (stop, _) = walk.into_iter().rev().find(refused)?;
        Some(match stop.metadata() {
            Ok(metadata) => {
                format!("{} (mode {:o})", stop.display(), metadata.permissions().mode() & 0o7777)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("{}, which is not there", stop.display())
            }
            Err(error) => format!("{} ({error})", stop.display()),
        })
    })
}

/// An absolute path, without links being followed.
pub(crate) fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).during(|| format!("{} is no path", path.display()))
}
