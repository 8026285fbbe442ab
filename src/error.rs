//! The conditions an operator can meet, each with a stable code.
#![forbid(unsafe_code)]

use std::fmt;

/// Makes [`Code`] and its list from one list of names, numbers and meanings.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $name:ident = $number:literal,)+) => {
        /// A condition that reaches the error log, printed as `MNF` and its number. A number is
        /// never given to another condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $meaning])+ $name = $number,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

codes! {
    /// CPython could not be started in this child; every request for it fails.
    PythonNotStarted = 1,
    /// An interpreter could not be made.
    InterpreterNotMade = 2,
    /// The request is for a process group, and there is none of that name.
    NoProcessGroup = 3,
    /// A script could not be read or compiled.
    ScriptNotCompiled = 4,
    /// A script raised while it was loaded.
    ScriptNotExecuted = 5,
    /// A script has no attribute of the name that should answer requests.
    NoCallable = 6,
    /// The application raised, or broke the rules of PEP 3333.
    ApplicationRaised = 7,
    /// The queue of the application group is full.
    QueueFull = 8,
    /// A request made by the output of another one on the same thread got no interpreter thread.
    NestedTooLong = 9,
    /// The process has as many interpreters as it may.
    InterpreterLimit = 10,
    /// The child stops, and the request with it.
    Stopping = 11,
    /// A panic: a defect of this module.
    Panic = 12,
    /// The request body cannot be accepted.
    BodyRefused = 13,
    /// The callback that httpd made into this module failed.
    Internal = 14,
    /// An interpreter could not be ended in time; the process leaves without it.
    NotEnded = 15,
    /// This Python, or this configuration, gives interpreters a shared GIL.
    SharedGil = 16,
    /// Log lines were dropped because the log could not keep up.
    LogDropped = 17,
    /// A directory could not be added to `sys.path`.
    PathNotAdded = 18,
    /// The response is shorter than its Content-Length says.
    ResponseShort = 19,
    /// WSGIRestrictEmbedded is on, and the request is for no process group.
    EmbeddedRestricted = 20,
    /// A script file may not be run, or is none.
    ScriptRefused = 21,
    /// The response is longer than its Content-Length says.
    ResponseLong = 22,
    /// An application called `os._exit`; the line is written by the bootstrap module.
    ProcessExit = 23,
    /// `%{ENV:name}` is to name a group, and nothing defines the variable.
    UndefinedVariable = 24,
    /// The request is for a process group that WSGIRestrictProcess does not name.
    ProcessRestricted = 25,
    /// WSGIPassApacheRequest is on, and no application can be given a request record.
    NoRequestRecord = 26,
    /// A file became shorter while it was sent.
    FileShort = 27,
    /// A request runs longer than WSGISlowRequests allows without a line.
    SlowRequest = 28,
    /// An option of an interpreter cannot be what the configuration says.
    OptionIgnored = 29,
    /// A request took longer than it may, and its application was interrupted.
    RequestTimeout = 30,
    /// A hook script is asked for, and there is none, or it lacks the function.
    HookMissing = 31,
    /// A function of a hook script raised.
    HookRaised = 32,
    /// A function of a hook script returned something that it may not.
    HookResult = 33,
    /// A fresh interpreter could not take the place of one that is out of date.
    NotReplaced = 34,
    /// A request did not end although it was interrupted, and its thread was given up.
    ThreadStuck = 35,
    /// So many threads are in requests that do not end that the group takes no more.
    GroupStuck = 36,
    /// An extension module does not load in the interpreter of a group, which is moved.
    Demoted = 37,
    /// Extension modules cannot be tried in a process of their own.
    NoProbe = 38,
    /// No worker process of a process group takes a request.
    WorkerUnreachable = 39,
    /// A worker process has gone in the middle of a request.
    WorkerLost = 40,
    /// A worker process has said nothing for too long.
    WorkerSilent = 41,
    /// A request has waited too long for a thread of its worker process.
    QueueTimeout = 42,
    /// A header line of a response is longer than it may be.
    HeaderTooLong = 43,
    /// httpd and a worker process do not understand each other.
    WorkerForeign = 44,
    /// A worker process could not start.
    WorkerNotStarted = 45,
    /// The request is for a process group that belongs to another virtual host.
    ProcessGroupElsewhere = 46,
    /// The process group may not serve the file, for its owner or its mode.
    FileOwner = 47,
    /// A worker process has died.
    WorkerDied = 48,
    /// A script has changed since its process has loaded it, and another process has to take the request.
    ProcessOutdated = 49,
    /// A process may have fewer descriptors open than it may need.
    FewDescriptors = 50,
    /// A response was cut off since its client has taken nothing of it for too long.
    ResponseNotTaken = 51,
    /// The system does not have the locale of a process group.
    NoLocale = 52,
    /// The file of a request lies outside of the root directory of its process group.
    OutsideChroot = 53,
    /// There is no memory, or no descriptor, for what is counted about a process group.
    CountersNotMade = 54,
}

impl Code {
    /// The HTTP status of a request that fails with this.
    pub fn status(self) -> u16 {
        match self {
            Self::QueueFull
            | Self::InterpreterLimit
            | Self::Stopping
            | Self::GroupStuck
            | Self::WorkerUnreachable => 503,
            Self::WorkerLost => 502,
            Self::RequestTimeout | Self::WorkerSilent | Self::QueueTimeout => 504,
            Self::FileOwner => 403,
            _ => 500,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MNF{:04}", *self as u16)
    }
}

/// Why a request was not taken. Displayed, it is one line for the error log that names the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which condition.
    pub code: Code,
    detail: String,
}

impl Refusal {
    /// A refusal; `detail` says what was met, where, and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The line without its code.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn the_page_of_codes_has_a_row_for_each_and_no_other() {
        let page = include_str!("../docs/errors.md");
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| MNF")).collect();
        let documented: Vec<_> = rows.iter().map(|row| row[2..9].to_owned()).collect();
        let codes: Vec<_> = Code::ALL.iter().map(Code::to_string).collect();
        assert_eq!(documented, codes);
        for row in rows {
            let cells = row.trim_matches('|').split(" | ");
            assert!(cells.filter(|cell| !cell.trim().is_empty()).count() == 4, "{row}");
        }
    }

    #[test]
    fn no_number_is_left_out() {
        let numbers = Code::ALL.iter().map(|code| *code as u16);
        assert!(numbers.eq(1..=Code::ALL.len() as u16));
    }
}
