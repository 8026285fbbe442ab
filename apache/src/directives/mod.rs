//! The directives: one row each, and a file for each topic.

mod group;
mod process;
mod rows;
mod script;
mod words;

use crate::boundary;
use httpd_sys::{Command, CommandTable, RawArgs, ap_check_cmd_context, apr_pool_t, cmd_parms};
use rows::{ROWS, Row, row};
use std::ffi::{CStr, c_char, c_void};
use words::Words;

/// The directives as httpd wants them.
pub(crate) static TABLE: CommandTable<{ ROWS.len() + 1 }> = CommandTable::new([
    command(c"WSGIHandlerScript", script::handler_script),
    command(c"WSGIScriptAlias", script::script_alias),
    command(c"WSGICallableObject", script::callable_object),
    command(c"WSGIScriptReloading", script::script_reloading),
    command(c"WSGIPassAuthorization", script::pass_authorization),
    command(c"WSGIProcessGroup", group::process_group),
    command(c"WSGIApplicationGroup", group::application_group),
    command(c"WSGIRestrictEmbedded", process::restrict_embedded),
    command(c"WSGIPythonHome", process::python_home),
    command(c"WSGIPythonPath", process::python_path),
    command(c"WSGIPerInterpreterGIL", process::own_gil),
    command(c"WSGIInterpreterThreads", process::interpreter_threads),
    command(c"WSGIInterpreterLimit", process::interpreter_limit),
    Command::end(),
]);

/// A row of [`ROWS`] with the function that carries it out.
const fn command(name: &CStr, function: RawArgs) -> Command {
    let row = row(name);
    Command::raw(row.name, row.place.allowed(), function, row.arguments)
}

/// A directive as httpd met it.
struct Directive<'a> {
    parameters: *mut cmd_parms,
    row: &'static Row,
    name: &'a str,
    words: Words<'a>,
}

/// Runs the body of a directive that httpd calls with the rest of its line.
///
/// # Safety
///
/// httpd called a row of [`TABLE`] with these.
unsafe fn run(
    parameters: *mut cmd_parms,
    arguments: *const c_char,
    body: impl FnOnce(&mut Directive<'_>) -> Result<(), String>,
) -> *const c_char {
    // SAFETY: httpd passes live parameters, whose pool outlives the configuration.
    let pool: *mut apr_pool_t = unsafe { (*parameters).pool };
    boundary::directive(pool, || {
        // SAFETY: httpd passes the row that matched, whose name is one of our literals.
        let name = unsafe { CStr::from_ptr((*(*parameters).cmd).name) };
        // SAFETY: raw arguments are a C string, possibly empty.
        let text = unsafe { CStr::from_ptr(arguments) };
        let words = Words::new(text.to_bytes());
        let mut directive =
            Directive { parameters, row: row(name), name: name.to_str().expect("ASCII"), words };
        directive.check_place()?;
        body(&mut directive)
    })
}

impl Directive<'_> {
    /// Refuses the directive where it may not stand.
    fn check_place(&self) -> Result<(), String> {
        let place = self.row.place;
        // SAFETY: httpd's parameters are live for the call.
        let refusal = unsafe { ap_check_cmd_context(self.parameters, place.forbidden()) };
        if refusal.is_null() {
            return Ok(());
        }
        Err(format!("{} is accepted in {} only, not here", self.name, place.describe()))
    }

    /// The record of the server the directive stands in.
    fn server(&mut self) -> &mut crate::config::ServerConfig {
        // SAFETY: httpd's parameters are live for the call.
        let server = unsafe { (*self.parameters).server };
        // SAFETY: directives run one after the other, and the reference ends with this one.
        unsafe { crate::config::server(server) }
    }

    /// The next word, which has to be there and not be empty.
    fn required(&mut self, what: &str) -> Result<Vec<u8>, String> {
        match self.words.word() {
            Some(word) if !word.is_empty() => Ok(word),
            Some(_) => Err(format!("{}: the {what} is empty", self.name)),
            None => Err(format!("{}: the {what} is missing", self.name)),
        }
    }

    /// The only word there may be.
    fn only(&mut self, what: &str) -> Result<Vec<u8>, String> {
        let word = self.required(what)?;
        match self.words.word() {
            None => Ok(word),
            Some(more) => Err(format!(
                "{} takes one argument, the {what}; '{}' is one too many (put quotes around an argument with spaces)",
                self.name,
                String::from_utf8_lossy(&more)
            )),
        }
    }

    /// `On` or `Off`.
    fn on_off(&mut self) -> Result<bool, String> {
        let word = self.only("value")?;
        parse_on_off(&word).ok_or_else(|| self.refuse(&word, "On or Off"))
    }

    /// A number in a range.
    fn number(&mut self, at_least: usize) -> Result<usize, String> {
        let word = self.only("number")?;
        let number = std::str::from_utf8(&word).ok().and_then(|digits| digits.parse().ok());
        number
            .filter(|number| (at_least..=65_536).contains(number))
            .ok_or_else(|| self.refuse(&word, &format!("a number from {at_least} to 65536")))
    }

    fn refuse(&self, given: &[u8], accepted: &str) -> String {
        format!("{}: '{}' is not {accepted}", self.name, String::from_utf8_lossy(given))
    }
}

/// httpd's flags are spelled in either case.
fn parse_on_off(word: &[u8]) -> Option<bool> {
    if word.eq_ignore_ascii_case(b"on") {
        Some(true)
    } else if word.eq_ignore_ascii_case(b"off") {
        Some(false)
    } else {
        None
    }
}

/// The record of the section that a directive stands in.
type Record = *mut c_void;
