//! The process that answers: it tries, says how that went, and is gone.

use super::{Answer, Question, wire};
use crate::interp::exception::Exception;
use crate::interp::object::done;
use crate::interp::startup::{self, Site};
use crate::interp::{Attached, Object, Raised, ThreadState};
use crate::PythonSettings;
use cpython_sys::*;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Longer than whoever asks waits: for a probe whose server is gone.
const LIFE_SECONDS: u32 = 30;

/// What an extension module did in one interpreter.
enum Outcome {
    Loaded,
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
    let python = PythonSettings { dont_write_bytecode: true, ..PythonSettings::default() };
    // sys.path comes with the question, and nobody's .pth files are to run here.
    startup::start_python(question.home.as_deref(), &python, Site::LeaveOut)?.abandon();
    let first = in_an_interpreter(question)?;
    if let Outcome::Refused(text) = first {
        return Ok(Answer::Refused(text));
    }
    Ok(match (first, in_an_interpreter(question)?) {
        (_, Outcome::Refused(text)) => Answer::Refused(text),
        // Many modules count their interpreters themselves, each with words of its own. What both
        // say has another reason: the module lacks its package here.
        (Outcome::Raised(first), Outcome::Raised(text)) if first == text => Answer::Loads,
        (_, Outcome::Raised(text)) => Answer::Refused(text),
        (_, Outcome::Loaded) => Answer::Loads,
    })
}

fn in_an_interpreter(question: &Question) -> Result<Outcome, String> {
    let mut state = startup::make_subinterpreter(question.gil)?;
    let outcome = state.attach(|py| {
        load(py, question).map_err(|raised| Exception::take(py, raised).summary())
    });
    ThreadState::abandon(state);
    outcome
}

fn load(py: Attached<'_>, question: &Question) -> Result<Outcome, Raised> {
    let source = concat!(include_str!("load.py"), "\0");
    let source = CStr::from_bytes_with_nul(source.as_bytes()).expect("one NUL, at its end");
    let name = c"_mod_manifold_probe";
    // SAFETY: attached; both are C strings; it returns a new reference or raises.
    let code = unsafe { Py_CompileString(source.as_ptr(), name.as_ptr(), Py_file_input) };
    // SAFETY: see above.
    let code = unsafe { Object::from_owned(py, code) }?;
    // SAFETY: attached; it returns a new reference or raises.
    let module = unsafe { PyImport_ExecCodeModule(name.as_ptr(), code.as_ptr()) };
    // SAFETY: see above.
    let module = unsafe { Object::from_owned(py, module) }?;
    // SAFETY: attached; it returns a new reference or raises.
    let search = unsafe { Object::from_owned(py, PyList_New(0)) }?;
    for folder in &question.search {
        let folder = Object::bytes(py, folder)?;
        // SAFETY: attached; a list and a live object.
        done(unsafe { PyList_Append(search.as_ptr(), folder.as_ptr()) })?;
    }
    let path = Object::bytes(py, question.path.as_os_str().as_bytes())?;
    let outcome = module.attribute(c"load")?.call([
        &Object::text(py, &question.name)?,
        &path,
        &search,
    ])?;
    if outcome.is_none() {
        return Ok(Outcome::Loaded);
    }
    let item = |index| {
        // SAFETY: attached; it is a sequence of two; a new reference or an exception.
        unsafe { Object::from_owned(py, PySequence_GetItem(outcome.as_ptr(), index)) }
    };
    let (refused, text) = (item(0)?.is_true()?, item(1)?.to_text()?);
    Ok(if refused { Outcome::Refused(text) } else { Outcome::Raised(text) })
}
