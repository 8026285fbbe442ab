//! The process that answers: it tries, says how that went, and is gone.

use super::{Answer, Question, wire};
use crate::interp::exception::Exception;
use crate::interp::object::done;
use crate::interp::startup::{self, Site};
use crate::interp::{Attached, Kept, Object, Raised, ThreadState};
use crate::{Gil, PythonSettings, wsgi};
use cpython_sys::*;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

const NAME: &CStr = c"_mod_manifold_probe";

/// Longer than whoever asks waits: for a probe whose server is gone.
const LIFE_SECONDS: u32 = 30;

/// What an extension module did in one interpreter.
enum Outcome {
    /// It loaded, and has these names.
    Loaded(Vec<String>),
    /// CPython refused it.
    Refused(String),
    /// It raised something, which is not ours to judge.
    Raised(String),
}

/// Answers one question: the whole of `manifold-worker --probe`.
pub fn answer_probe() -> ExitCode {
    let mut answers = withdraw();
    let mut text = Vec::new();
    let limit = wire::LONGEST_QUESTION as u64;
    let answer = match std::io::stdin().take(limit).read_to_end(&mut text) {
        Ok(_) => Question::decode(&text).and_then(|question| try_it(&question)),
        Err(error) => Err(error.to_string()),
    };
    let answer = answer.unwrap_or_else(Answer::Unable);
    let said = answers.write_all(&answer.encode());
    // No destructor of a library runs any more: the answer is given, and how this ends is no part of it.
    // SAFETY: it ends the process.
    unsafe { libc::_exit(i32::from(said.is_err())) }
}

/// Keeps this process from being more than a probe: no descriptor of the server, no blocked signal,
/// no memory dump when it crashes, and an end. What the module prints goes nowhere; returns where
/// the answer goes.
fn withdraw() -> File {
    // SAFETY: it takes a number, and returns a descriptor of our own.
    let answers = unsafe { libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: both are numbers; standard error is open.
    unsafe { libc::dup2(2, 1) };
    // SAFETY: these descriptors are nobody's: this is the process's first function.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, answers.cast_unsigned() - 1, 0);
        libc::syscall(libc::SYS_close_range, answers.cast_unsigned() + 1, u32::MAX, 0);
    }
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    // SAFETY: it takes numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    // SAFETY: it takes a number.
    unsafe { libc::alarm(LIFE_SECONDS) };
    // SAFETY: the descriptor was just made, and is ours alone.
    unsafe { File::from_raw_fd(answers) }
}

/// Loads the module in two interpreters, one after the other. Both stay: a module that loads only
/// where no other has it is not one that loads.
fn try_it(question: &Question) -> Result<Answer, String> {
    // What CPython makes of a module in the main interpreter. Where two share its GIL, modules are
    // loaded that were never meant for several, and may silently lack half of what they have; once
    // that has happened, no interpreter of the process sees the whole any more.
    let whole = match question.gil {
        Gil::Own => None,
        Gil::Shared => Some(in_a_fork(|| load_in(start(question)?, question))?),
    };
    let mut main = start(question)?;
    let stand_ins = main.attach(|py| said(py, prepare(py, question).map(Kept::new)))?;
    let first = load_in(startup::make_subinterpreter(question.gil)?, question)?;
    if let Outcome::Refused(text) = first {
        return Ok(Answer::Refused(text));
    }
    let second = load_in(startup::make_subinterpreter(question.gil)?, question)?;
    let beside = main.attach(|py| {
        said(
            py,
            Object::text(py, " ")
                .and_then(|space| space.attribute(c"join")?.call([&stand_ins.get(py)])?.to_text()),
        )
    })?;
    main.abandon();
    if question.gil == Gil::Shared && !beside.is_empty() {
        // CPython initialises such modules there, whichever interpreter imports them.
        return Ok(Answer::Refused(format!("it imports {beside} into the main interpreter")));
    }
    Ok(match whole {
        None => compare(&first, second),
        Some(whole) => match compare(&whole, first) {
            Answer::Loads => compare(&whole, second),
            refused => refused,
        },
    })
}

fn start(question: &Question) -> Result<ThreadState, String> {
    let python = PythonSettings { dont_write_bytecode: true, ..PythonSettings::default() };
    // sys.path comes with the question, and nobody's .pth files are to run here.
    startup::start_python(question.home.as_deref(), &python, Site::LeaveOut)
}

/// What to think of a module that has come to `outcome` where elsewhere it came to `usual`.
fn compare(usual: &Outcome, outcome: Outcome) -> Answer {
    match (usual, outcome) {
        (_, Outcome::Refused(text)) => Answer::Refused(text),
        // What both say has another reason: the module lacks its package here. Many modules count
        // their interpreters themselves, each with words of its own.
        (Outcome::Raised(usual), Outcome::Raised(text)) if *usual == text => Answer::Loads,
        (_, Outcome::Raised(text)) => Answer::Refused(text),
        (Outcome::Loaded(usual), Outcome::Loaded(names)) => {
            match usual.iter().find(|name| !names.contains(name)) {
                Some(lost) => Answer::Refused(format!("it loads, and lacks '{lost}' there")),
                None => Answer::Loads,
            }
        }
        (_, Outcome::Loaded(_)) => Answer::Loads,
    }
}

/// Runs `body` in a process of its own, before this one has started anything.
fn in_a_fork(body: impl FnOnce() -> Result<Outcome, String>) -> Result<Outcome, String> {
    let failed = |error: &dyn std::fmt::Display| format!("no process for a first look: {error}");
    let (mut reader, mut writer) = std::io::pipe().map_err(|error| failed(&error))?;
    // SAFETY: this process has one thread, and no Python yet.
    match unsafe { libc::fork() } {
        -1 => Err(failed(&std::io::Error::last_os_error())),
        0 => {
            drop(reader);
            let text = body().map_or_else(|error| format!("!{error}"), |outcome| outcome.encode());
            let said = writer.write_all(text.as_bytes());
            // SAFETY: it ends the process.
            unsafe { libc::_exit(i32::from(said.is_err())) }
        }
        _ => {
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text).map_err(|error| failed(&error))?;
            match text.strip_prefix('!') {
                Some(error) => Err(error.to_owned()),
                None => Ok(Outcome::decode(&text)),
            }
        }
    }
}

impl Outcome {
    fn encode(&self) -> String {
        match self {
            Self::Loaded(names) => format!("+{}", names.join("\n")),
            Self::Refused(text) => format!("-{text}"),
            Self::Raised(text) => format!("?{text}"),
        }
    }

    fn decode(text: &str) -> Self {
        match text.split_at_checked(1) {
            Some(("+", names)) => Self::Loaded(names.lines().map(str::to_owned).collect()),
            Some(("-", text)) => Self::Refused(text.to_owned()),
            Some((_, text)) => Self::Raised(text.to_owned()),
            None => Self::Raised("it ends a process, even in the main interpreter".to_owned()),
        }
    }
}

/// Loads the module in a fresh interpreter.
fn load_in(mut state: ThreadState, question: &Question) -> Result<Outcome, String> {
    let outcome =
        state.attach(|py| said(py, prepare(py, question).and_then(|_| load(py, question))));
    state.abandon();
    outcome
}

/// What Python said, where it raised.
fn said<T>(py: Attached<'_>, result: Result<T, Raised>) -> Result<T, String> {
    result.map_err(|raised| Exception::take(py, raised).summary())
}

/// Prepares an interpreter to load the module; returns a list of the names that were looked for
/// beside it, which grows.
fn prepare<'py>(py: Attached<'py>, question: &Question) -> Result<Object<'py>, Raised> {
    // SAFETY: attached; it returns a new reference or raises.
    let search = unsafe { Object::from_owned(py, PyList_New(0)) }?;
    for folder in &question.search {
        let folder = Object::bytes(py, folder)?;
        // SAFETY: attached; a list and a live object.
        done(unsafe { PyList_Append(search.as_ptr(), folder.as_ptr()) })?;
    }
    let source = concat!(include_str!("load.py"), "\0");
    let module = wsgi::module(py, NAME, source)?;
    module.attribute(c"prepare")?.call([&Object::text(py, &question.name)?, &search])
}

fn load(py: Attached<'_>, question: &Question) -> Result<Outcome, Raised> {
    let path = Object::bytes(py, question.path.as_os_str().as_bytes())?;
    let name = Object::text(py, &question.name)?;
    let outcome = Object::import(py, NAME)?.attribute(c"load")?.call([&name, &path])?;
    let (kind, text) = (outcome.item(0)?.to_text()?, outcome.item(1)?.to_text()?);
    Ok(match &*kind {
        "loaded" => Outcome::Loaded(text.lines().map(str::to_owned).collect()),
        "refused" => Outcome::Refused(text),
        _ => Outcome::Raised(text),
    })
}
