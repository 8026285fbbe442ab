//! The groups of daemon processes that the configuration defines: who may use which, and as whom
//! their processes run.

use crate::mapping;
use crate::request::Request;
use httpd_sys::{ap_unixd_config, server_rec};
use manifold::daemon::{Id, ProcessGroup};
use manifold::{Code, GroupName, Refusal};
use nix::unistd::{Group, User, geteuid};
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A WSGIDaemonProcess.
#[derive(Debug)]
pub(crate) struct DaemonConfig {
    /// What its options say.
    pub(crate) group: ProcessGroup,
    /// The virtual host it stands in, if it stands in one.
    pub(crate) host: Option<Host>,
    /// Its file and line, for messages.
    pub(crate) place: String,
}

/// A virtual host. It lives as long as the configuration it is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host(NonNull<server_rec>);

// SAFETY: httpd changes a server's record while it reads its configuration only; after that its own
// threads all read it.
unsafe impl Send for Host {}
// SAFETY: see above.
unsafe impl Sync for Host {}

/// Why a process group cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable<'a> {
    /// There is none of that name.
    Undefined,
    /// It belongs to another virtual host.
    Elsewhere(&'a DaemonConfig),
}

/// The process group of this name, for a request.
///
/// # Errors
///
/// There is none, or it belongs to a virtual host with another ServerName.
pub(crate) fn find<'r>(r: Request<'r>, name: &GroupName) -> Result<&'r DaemonConfig, Refusal> {
    let server = r.server();
    usable(&mapping::server_config(r).daemons, name, server).map_err(|unusable| match unusable {
        Unusable::Undefined => Refusal::new(
            Code::NoProcessGroup,
            format!(
                "process group '{name}' is asked for, and no daemon process of that name is \
                 configured; define it by WSGIDaemonProcess, or leave process-group and \
                 WSGIProcessGroup out to run inside httpd"
            ),
        ),
        Unusable::Elsewhere(daemon) => {
            Refusal::new(Code::ProcessGroupElsewhere, daemon.not_for(server))
        }
    })
}

/// The process group of this name, where a server may use it.
pub(crate) fn usable<'a>(
    daemons: &'a [Arc<DaemonConfig>],
    name: &GroupName,
    from: &server_rec,
) -> Result<&'a DaemonConfig, Unusable<'a>> {
    match daemons.iter().find(|daemon| daemon.group.name == *name) {
        None => Err(Unusable::Undefined),
        Some(daemon) if daemon.is_visible_from(from) => Ok(daemon),
        Some(daemon) => Err(Unusable::Elsewhere(daemon)),
    }
}

impl DaemonConfig {
    /// A group outside of virtual hosts is there for all, one in a virtual host for those with the
    /// same ServerName, on whatever port.
    fn is_visible_from(&self, server: &server_rec) -> bool {
        match self.host {
            None => true,
            Some(Host(host)) if std::ptr::eq(host.as_ptr(), server) => true,
            Some(host) => host.name().eq_ignore_ascii_case(server_name(server)),
        }
    }

    /// Why it is not visible from a server, and what to do.
    pub(crate) fn not_for(&self, server: &server_rec) -> String {
        let name = self.host.as_ref().map_or(&b""[..], Host::name);
        format!(
            "process group '{}' belongs to the virtual host {} (WSGIDaemonProcess on {}), and only \
             virtual hosts of the same ServerName may use it, not {}; define it outside of virtual \
             hosts, and all may",
            self.group.name,
            Shown(name),
            self.place,
            Shown(server_name(server))
        )
    }

    /// The process group as it is to be, once the whole configuration was read: with the User and
    /// Group of httpd's children where the line names none. Who was not started as root can be
    /// nobody else, so nothing is left of them then.
    ///
    /// # Errors
    ///
    /// The processes would keep the rights of root. The text says what to do.
    pub(crate) fn resolved(&self) -> Result<ProcessGroup, String> {
        let children = geteuid().is_root().then(Children::of_this_server);
        resolve(&self.group, children).ok_or_else(|| {
            format!(
                "the daemon processes of '{}' (WSGIDaemonProcess on {}) would keep the rights of root; \
                 say whose they are by user= and group=, or by httpd's own directives User and Group",
                self.group.name, self.place
            )
        })
    }
}

impl Host {
    /// The server, where it is a virtual host.
    ///
    /// # Safety
    ///
    /// The server is live, and stays so as long as this is used.
    pub(crate) unsafe fn of(server: *mut server_rec) -> Option<Self> {
        // SAFETY: the caller's promise.
        NonNull::new(server).filter(|server| unsafe { server.as_ref() }.is_virtual != 0).map(Self)
    }

    /// Its record, for what httpd does for a server.
    pub(crate) fn record(self) -> *mut server_rec {
        self.0.as_ptr()
    }

    fn name(&self) -> &[u8] {
        // SAFETY: `of` was promised that the server lives as long as this.
        server_name(unsafe { self.0.as_ref() })
    }
}

/// Its ServerName; empty as long as none was said.
fn server_name(server: &server_rec) -> &[u8] {
    text(server.server_hostname)
}

/// A C string of httpd's; empty where it is null.
fn text<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: httpd's strings about its configuration end with a NUL and live as long as that.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// A ServerName as messages show it.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("without a ServerName"),
            name => write!(f, "'{}'", String::from_utf8_lossy(name)),
        }
    }
}

/// Whom httpd's children run as, where it was started as root.
struct Children {
    user: Id,
    group: Id,
}

impl Children {
    fn of_this_server() -> Self {
        // SAFETY: httpd writes it while it reads its configuration, on the thread that asks here.
        let unixd = unsafe { (&raw const ap_unixd_config).read() };
        // As it was written: `#` and a number, or a name, of which a number may have several.
        let name = |said: *const c_char, known: Option<String>| match text(said) {
            [] | [b'#', ..] => known,
            name => Some(String::from_utf8_lossy(name).into_owned()),
        };
        let user = User::from_uid(unixd.user_id.into()).ok().flatten().map(|user| user.name);
        let group = Group::from_gid(unixd.group_id.into()).ok().flatten().map(|group| group.name);
        Self {
            user: Id { number: unixd.user_id, name: name(unixd.user_name, user) },
            group: Id { number: unixd.group_id, name: name(unixd.group_name, group) },
        }
    }
}

/// `None` where the processes would keep the rights of root.
fn resolve(group: &ProcessGroup, children: Option<Children>) -> Option<ProcessGroup> {
    let mut group = group.clone();
    let identity = &mut group.identity;
    let Some(children) = children else {
        (identity.user, identity.group, identity.supplementary) = (None, None, None);
        group.socket.owner = None;
        return Some(group);
    };
    group.socket.owner.get_or_insert(children.user.number);
    let user = identity.user.get_or_insert(children.user).number;
    let primary = identity.group.get_or_insert(children.group).number;
    // As `#-1`, httpd's default where it was built without another, the system calls take it for
    // "as it is".
    (user != 0 && user != u32::MAX && primary != u32::MAX).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    /// A server of this ServerName, for as long as the test runs.
    fn server(name: Option<&str>) -> &'static mut server_rec {
        // SAFETY: numbers and pointers, which may be zero and null.
        let mut server: server_rec = unsafe { std::mem::zeroed() };
        server.is_virtual = 1;
        server.server_hostname =
            name.map_or(std::ptr::null_mut(), |name| CString::new(name).unwrap().into_raw());
        Box::leak(Box::new(server))
    }

    fn defined(name: &str, host: Option<*mut server_rec>) -> Arc<DaemonConfig> {
        Arc::new(DaemonConfig {
            group: ProcessGroup::new(GroupName::new(name.as_bytes())),
            // SAFETY: these servers are never dropped.
            host: host.and_then(|host| unsafe { Host::of(host) }),
            place: "line 7 of httpd.conf".to_owned(),
        })
    }

    #[test]
    fn a_group_is_there_for_all_or_for_servers_of_one_name() {
        let (a, b, unnamed) = (server(Some("a.test")), server(Some("b.test")), server(None));
        let other_a = server(Some("A.test"));
        let other_unnamed = server(None);
        let daemons = [
            defined("everywhere", None),
            defined("of a", Some(a)),
            defined("of unnamed", Some(unnamed)),
        ];
        let found = |name: &str, from: &server_rec| {
            usable(&daemons, &GroupName::new(name.as_bytes()), from).is_ok()
        };
        for from in [&*a, &*b, &*other_a, &*unnamed] {
            assert!(found("everywhere", from));
            assert!(!found("nowhere", from));
        }
        assert_eq!([found("of a", a), found("of a", other_a)], [true, true]);
        assert_eq!([found("of a", b), found("of a", unnamed)], [false, false]);
        assert_eq!([found("of unnamed", unnamed), found("of unnamed", a)], [true, false]);
        assert!(found("of unnamed", other_unnamed));

        // A server may be named behind the line.
        unnamed.server_hostname = c"b.test".as_ptr().cast_mut();
        assert_eq!([found("of unnamed", unnamed), found("of unnamed", b)], [true, true]);
    }

    #[test]
    fn why_a_group_cannot_be_used_is_said_with_the_names_of_both_servers() {
        let (a, unnamed) = (server(Some("a.test")), server(None));
        let daemons = [defined("of a", Some(a))];
        let name = GroupName::new(b"of a");
        let Err(Unusable::Elsewhere(daemon)) = usable(&daemons, &name, unnamed) else {
            panic!("it belongs to a.test");
        };
        let said = daemon.not_for(unnamed);
        for word in ["'of a'", "'a.test'", "line 7 of httpd.conf", "not without a ServerName"] {
            assert!(said.contains(word), "{said}");
        }
        let unknown = usable(&daemons, &GroupName::new(b"x"), unnamed);
        assert!(matches!(unknown, Err(Unusable::Undefined)));
    }

    fn id(number: u32) -> Id {
        Id { number, name: None }
    }

    fn children(user: u32) -> Option<Children> {
        Some(Children { user: id(user), group: id(user) })
    }

    #[test]
    fn what_a_line_says_of_users_comes_before_what_httpd_says() {
        let bare = ProcessGroup::new(GroupName::new(b"x"));
        let mut full = bare.clone();
        (full.identity.user, full.identity.group) = (Some(id(1)), Some(id(2)));
        (full.identity.supplementary, full.socket.owner) = (Some(vec![3]), Some(4));

        let resolved = resolve(&bare, children(33)).expect("no root");
        assert_eq!(resolved.identity.user, Some(id(33)));
        assert_eq!(resolved.identity.group, Some(id(33)));
        assert_eq!((resolved.identity.supplementary, resolved.socket.owner), (None, Some(33)));
        assert_eq!(resolve(&full, children(33)), Some(full.clone()));
        // Not started as root, httpd can make nobody else of its processes.
        assert_eq!(resolve(&full, None), Some(bare));
    }

    #[test]
    fn no_daemon_process_keeps_the_rights_of_root() {
        let mut group = ProcessGroup::new(GroupName::new(b"x"));
        for number in [0, u32::MAX] {
            assert_eq!(resolve(&group, children(number)), None);
        }
        group.identity.user = Some(id(1));
        assert!(resolve(&group, children(0)).is_some());
        assert_eq!(resolve(&group, children(u32::MAX)), None, "it would keep its group");
        group.identity.group = Some(id(1));
        assert!(resolve(&group, children(u32::MAX)).is_some());
    }
}
