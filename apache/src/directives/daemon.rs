//! WSGIDaemonProcess: its options, and what a line of them makes of a process group.

use super::options::{MOST_REPLICAS, processors};
use super::process::{os_path, os_paths};
use super::runtime::parse;
use super::words::{OptionWord, Words};
use super::{Directive, parse_on_off, refusal};
use crate::process_groups::DaemonConfig;
use manifold::GroupName;
use manifold::daemon::{Id, ProcessGroup};
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "WSGIDaemonProcess";

/// As many groups as Linux lets a process have, the primary one not counted.
const MOST_GROUPS: usize = 65_535;

/// What C's `int` holds: mod_wsgi's numbers, and those of the system calls that get them.
const MOST: i64 = i32::MAX as i64;

/// Bytes of stack with which CPython starts, and with which a framework answers, on each version. With
/// less a worker process may die at its first request, or before.
const LEAST_STACK: i64 = 256 * 1024;

/// How the value of an option is read, and where it goes.
enum Value {
    /// A number in this range.
    Number(i64, i64, fn(&mut ProcessGroup, i64)),
    /// 0, which is the default, or a number in this range.
    Size(i64, i64, fn(&mut ProcessGroup, Option<NonZeroUsize>)),
    /// Whole seconds.
    Seconds(fn(&mut ProcessGroup, Duration)),
    /// Any text. An empty one is none.
    Text(fn(&mut ProcessGroup, Option<Vec<u8>>)),
    /// What the text says, if the function takes it.
    Checked(&'static str, fn(&mut ProcessGroup, &[u8]) -> Option<()>),
}

/// What became of a value that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It is what it says.
    Whole,
    /// It is no number, and stands for this one.
    As(i64),
}

use Value::{Checked, Number, Seconds, Size, Text};

/// Every option.
const OPTIONS: &[(&str, Value)] = &[
    (
        "processes",
        Number(1, 65_536, |group, number| {
            group.processes = NonZeroUsize::new(unsigned(number)).expect("from 1");
            group.multiprocess = true;
        }),
    ),
    ("threads", Number(0, 65_533, |group, number| group.threads = unsigned(number))),
    ("replicas", Checked("auto or a number from 1 to 1024", replicas)),
    (
        "worker",
        Checked("the absolute path of a program", |group, value| {
            group.worker = Some(absolute(value)?);
            Some(())
        }),
    ),
    ("display-name", Text(display_name)),
    // Who and where it is.
    (
        "user",
        Checked(
            "the name, or # and the number, of a user who exists, other than root",
            |group, value| {
                let user = user(value)?;
                group.identity.user = Some(user).filter(|user| user.number != 0);
                group.identity.user.is_some().then_some(())
            },
        ),
    ),
    (
        "group",
        Checked("the name of a group that exists, or # and a number", |group, value| {
            group.identity.group = Some(group_or_number(value)?);
            Some(())
        }),
    ),
    (
        "supplementary-groups",
        Checked(
            "a list of up to 65535 groups with commas between, each the name of one that exists, or # and a number",
            supplementary_groups,
        ),
    ),
    (
        "home",
        Checked("an absolute path", |group, value| {
            group.identity.home = Some(absolute(value)?);
            Some(())
        }),
    ),
    (
        "chroot",
        Checked("an absolute path", |group, value| {
            group.identity.chroot = Some(absolute(value)?);
            Some(())
        }),
    ),
    ("umask", Checked("an octal number from 0 to 7777", umask)),
    // What its Python is told.
    ("python-home", Text(|group, value| group.python.home = value.map(os_path))),
    ("python-path", Text(|group, value| group.python.path = os_paths(&value.unwrap_or_default()))),
    ("python-eggs", Text(|group, value| group.python.eggs = value.map(os_path))),
    ("lang", Text(|group, value| group.python.lang = value)),
    ("locale", Text(|group, value| group.python.locale = value)),
    (
        "switch-interval",
        Checked("a number of seconds from 0.000001 to 4000", |group, value| {
            let seconds = parse::<f64>(value).filter(|seconds| (1e-6..=4000.0).contains(seconds));
            group.python.switch_interval = Some(seconds?);
            Some(())
        }),
    ),
    (
        "stack-size",
        Number(LEAST_STACK, MOST, |group, number| {
            group.python.stack_size = NonZeroUsize::new(unsigned(number));
        }),
    ),
    // What it may use.
    ("cpu-time-limit", Number(0, MOST, |group, number| group.resources.cpu_time = limit(number))),
    (
        "cpu-priority",
        Number(-MOST, MOST, |group, number| {
            // As setpriority(2) takes it.
            group.resources.priority = i32::try_from(number.clamp(-20, 19)).ok();
        }),
    ),
    ("memory-limit", Number(0, i64::MAX, |group, number| group.resources.memory = limit(number))),
    (
        "virtual-memory-limit",
        Number(0, i64::MAX, |group, number| group.resources.virtual_memory = limit(number)),
    ),
    // How it is reached.
    (
        "socket-user",
        Checked("the name of a user who exists, or # and a number", |group, value| {
            group.socket.owner = Some(user_or_number(value)?.number);
            Some(())
        }),
    ),
    (
        "listen-backlog",
        Number(0, MOST, |group, number| {
            group.socket.backlog = i32::try_from(number).expect("up to MOST");
        }),
    ),
    ("send-buffer-size", Size(512, MOST, |group, size| group.socket.send_buffer = size)),
    ("receive-buffer-size", Size(512, MOST, |group, size| group.socket.receive_buffer = size)),
    // When it is replaced.
    (
        "maximum-requests",
        Number(0, i64::MAX, |group, number| group.renewal.maximum_requests = limit(number)),
    ),
    ("restart-interval", Seconds(|group, time| group.renewal.interval = some(time))),
    ("inactivity-timeout", Seconds(|group, time| group.renewal.inactivity = some(time))),
    // How long things may take.
    ("request-timeout", Seconds(|group, time| group.timeouts.request = some(time))),
    ("interrupt-timeout", Seconds(|group, time| group.timeouts.interrupt = some(time))),
    ("deadlock-timeout", Seconds(|group, time| group.timeouts.deadlock = some(time))),
    ("startup-timeout", Seconds(|group, time| group.timeouts.startup = some(time))),
    ("graceful-timeout", Seconds(|group, time| group.timeouts.graceful = time)),
    ("eviction-timeout", Seconds(|group, time| group.timeouts.eviction = some(time))),
    ("shutdown-timeout", Seconds(|group, time| group.timeouts.shutdown = some(time))),
    ("connect-timeout", Seconds(|group, time| group.timeouts.connect = time)),
    ("socket-timeout", Seconds(|group, time| group.timeouts.socket = some(time))),
    ("queue-timeout", Seconds(|group, time| group.timeouts.queue = some(time))),
    ("response-socket-timeout", Seconds(|group, time| group.timeouts.response = some(time))),
    // How responses come back.
    ("header-buffer-size", Size(8192, MOST, |group, size| group.response.header_limit = size)),
    ("response-buffer-size", Size(65_536, MOST, |group, size| group.response.buffer = size)),
    (
        "response-flush-delay",
        Number(0, MOST, |group, number| {
            group.response.flush_delay = Some(Duration::from_millis(number.unsigned_abs()));
        }),
    ),
    // Whose scripts it serves, and what they may ask.
    (
        "script-user",
        Checked("the name, or # and the number, of a user who exists", |group, value| {
            group.owner.user = Some(user(value)?);
            Some(())
        }),
    ),
    (
        "script-group",
        Checked("the name, or # and the number, of a group that exists", |group, value| {
            group.owner.group = Some(group_or_number(value).filter(|group| group.name.is_some())?);
            Some(())
        }),
    ),
    (
        "server-metrics",
        Checked("On or Off", |group, value| {
            group.server_metrics = parse_on_off(value)?;
            Some(())
        }),
    ),
];

/// `WSGIDaemonProcess name [option=value ...]`: a group of processes that run applications.
pub(super) fn daemon_process(directive: &mut Directive<'_>) -> Result<(), String> {
    let name = GroupName::new(&directive.required("name of the process group")?);
    let daemons = &directive.main_server().daemons;
    if let Some(other) = daemons.iter().find(|other| other.group.name == name) {
        return Err(format!(
            "{NAME}: there is a process group '{name}' already, on {}; a name stands for one in the \
             whole server",
            other.place
        ));
    }
    let mut group = ProcessGroup::new(name);
    let remarks = read(Words::new(directive.words.take_rest()), &mut group)?;
    for remark in remarks {
        directive.note(&format!("'{}': {remark}", group.name));
    }
    if !geteuid().is_root() {
        without_root(directive, &group)?;
    }
    let daemon = DaemonConfig { group, host: directive.host(), place: directive.place() };
    directive.main_server().daemons.push(Arc::new(daemon));
    Ok(())
}

/// What only root could do.
fn without_root(directive: &mut Directive<'_>, group: &ProcessGroup) -> Result<(), String> {
    let identity = &group.identity;
    if let Some(path) = &identity.chroot {
        return Err(format!(
            "{NAME}: '{}' cannot be made the root directory (chroot=): only an httpd that root has \
             started can do that",
            path.display()
        ));
    }
    let given = [
        ("user=", identity.user.is_some()),
        ("group=", identity.group.is_some()),
        ("supplementary-groups=", identity.supplementary.is_some()),
        ("socket-user=", group.socket.owner.is_some()),
    ];
    let names: Vec<_> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if !names.is_empty() {
        directive.note_info(&format!(
            "'{}': {} without effect: root has not started this httpd, so its processes are whose \
             it is",
            group.name,
            names.join(", ")
        ));
    }
    Ok(())
}

/// Reads the options of a line. What is accepted although it looks like a mistake comes back as remarks.
fn read(mut words: Words<'_>, group: &mut ProcessGroup) -> Result<Vec<String>, String> {
    let mut remarks = Vec::new();
    while let Some(option) = words.option() {
        let (name, value) = match option {
            OptionWord::Pair(name, value) => (name, value),
            OptionWord::Invalid(word) => {
                let what = format!("an option (name=value); accepted are {}", accepted());
                return Err(refusal(NAME, &word, &what));
            }
        };
        let Some((name, how)) = OPTIONS.iter().find(|(known, _)| known.as_bytes() == name) else {
            let what = format!("an option; accepted are {}", accepted());
            return Err(refusal(NAME, &name, &what));
        };
        match how.take(group, &value) {
            None => return Err(refusal(NAME, &value, &format!("{} ({name}=)", how.accepts()))),
            Some(Taken::Whole) => {}
            Some(Taken::As(number)) => {
                let value = String::from_utf8_lossy(&value);
                remarks.push(format!("{name}='{value}' is no number, and is taken as {number}"));
            }
        }
    }
    if group.owner.user.is_some() && group.owner.group.is_some() {
        return Err(format!("{NAME}: of script-user= and script-group= only one can be there"));
    }
    Ok(remarks)
}

/// The names of all options.
fn accepted() -> String {
    OPTIONS.iter().map(|(name, _)| format!("{name}=")).collect::<Vec<_>>().join(", ")
}

impl Value {
    /// Puts a value where it belongs, if it is accepted.
    fn take(&self, group: &mut ProcessGroup, value: &[u8]) -> Option<Taken> {
        if let Text(set) = self {
            set(group, (!value.is_empty()).then(|| value.to_vec()));
            return Some(Taken::Whole);
        }
        if let Checked(_, take) = self {
            return take(group, value).map(|()| Taken::Whole);
        }
        let (number, taken) = leading_number(value)?;
        match self {
            Number(least, most, set) if (*least..=*most).contains(&number) => set(group, number),
            Size(least, most, set) if number == 0 || (*least..=*most).contains(&number) => {
                set(group, NonZeroUsize::new(unsigned(number)));
            }
            Seconds(set) if (0..=MOST).contains(&number) => {
                set(group, Duration::from_secs(number.unsigned_abs()));
            }
            _ => return None,
        }
        Some(taken)
    }

    /// What is accepted, for a message.
    fn accepts(&self) -> String {
        match self {
            Number(least, most, _) => format!("a number from {least} to {most}"),
            Size(least, most, _) => format!("0 or a number from {least} to {most}"),
            Seconds(_) => format!("a number of seconds from 0 to {MOST}"),
            Text(_) => "a text".to_owned(),
            Checked(accepted, _) => (*accepted).to_owned(),
        }
    }
}

/// A number as C's `atoi` reads it: white space, a sign, digits, and then anything; without digits it is
/// 0. Only nothing at all is not accepted.
fn leading_number(value: &[u8]) -> Option<(i64, Taken)> {
    if value.is_empty() {
        return None;
    }
    let start = value.trim_ascii_start();
    let (negative, digits) = match start {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let number = digits[..end].iter().fold(0_i64, |number, digit| {
        number.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    let number = if negative { -number } else { number };
    let whole = !digits.is_empty() && end == digits.len();
    Some((number, if whole { Taken::Whole } else { Taken::As(number) }))
}

/// A number that was checked to be 0 at least.
fn unsigned(number: i64) -> usize {
    usize::try_from(number).expect("0 or more")
}

/// 0 is no limit.
fn limit(number: i64) -> Option<NonZeroU64> {
    NonZeroU64::new(number.unsigned_abs())
}

/// 0 is none.
fn some(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

fn absolute(value: &[u8]) -> Option<PathBuf> {
    Some(os_path(value.to_vec())).filter(|path| path.is_absolute())
}

fn replicas(group: &mut ProcessGroup, value: &[u8]) -> Option<()> {
    let number = match value.eq_ignore_ascii_case(b"auto") {
        true => Some(processors()),
        false => parse::<NonZeroUsize>(value).filter(|number| number.get() <= MOST_REPLICAS),
    };
    group.replicas = Some(number?);
    Some(())
}

fn display_name(group: &mut ProcessGroup, value: Option<Vec<u8>>) {
    group.title = match value.as_deref() {
        Some(b"%{GROUP}") => Some([b"(wsgi:", group.name.as_bytes(), b")"].concat()),
        _ => value,
    };
}

fn umask(group: &mut ProcessGroup, value: &[u8]) -> Option<()> {
    let digits = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'))?;
    let mask = u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o7777)?;
    // Of the rest umask(2) makes nothing.
    group.identity.umask = Some(mask & 0o777);
    Some(())
}

fn supplementary_groups(group: &mut ProcessGroup, value: &[u8]) -> Option<()> {
    let names = value.split(|byte| *byte == b',').map(|name| Some(group_or_number(name)?.number));
    let numbers = names.collect::<Option<Vec<_>>>()?;
    group.identity.supplementary = Some(numbers).filter(|numbers| numbers.len() <= MOST_GROUPS);
    group.identity.supplementary.is_some().then_some(())
}

/// A user the system knows.
fn user(value: &[u8]) -> Option<Id> {
    user_or_number(value).filter(|user| user.name.is_some())
}

/// A user the system knows by this name, or `#` and any number.
fn user_or_number(value: &[u8]) -> Option<Id> {
    let found = match number(value)? {
        Ok(number) => {
            let name = User::from_uid(Uid::from_raw(number)).ok().flatten().map(|user| user.name);
            return Some(Id { number, name });
        }
        Err(name) => User::from_name(name).ok().flatten()?,
    };
    Some(Id { number: found.uid.as_raw(), name: Some(found.name) })
}

/// A group the system knows by this name, or `#` and any number.
fn group_or_number(value: &[u8]) -> Option<Id> {
    let found = match number(value)? {
        Ok(number) => {
            let group = Group::from_gid(Gid::from_raw(number)).ok().flatten();
            return Some(Id { number, name: group.map(|group| group.name) });
        }
        Err(name) => Group::from_name(name).ok().flatten()?,
    };
    Some(Id { number: found.gid.as_raw(), name: Some(found.name) })
}

/// The number behind `#`, or what has no `#` as it stands.
fn number(value: &[u8]) -> Option<Result<u32, &str>> {
    let text = std::str::from_utf8(value).ok()?;
    let Some(digits) = text.strip_prefix('#') else { return Some(Err(text)) };
    // The greatest one stands for none, to the system.
    let number = parse(digits.as_bytes()).filter(|number| *number != u32::MAX);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(Ok(number?))
}

#[cfg(test)]
mod tests;
