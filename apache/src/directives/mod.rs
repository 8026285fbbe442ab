//! The directives: one row each, and a file for each topic.

mod group;
mod hook;
mod process;
mod rows;
mod script;
mod words;

use crate::boundary;
use httpd_sys::{
    Command, CommandTable, NOT_IN_HTACCESS, ap_check_cmd_context, apr_pool_t, cmd_parms,
};
use rows::{ROWS, Row};
use std::ffi::{CStr, c_char, c_void};
use words::Words;

/// The directives as httpd wants them.
pub(crate) static TABLE: CommandTable<{ ROWS.len() + 1 }> = {
    let mut commands = [const { Command::end() }; ROWS.len() + 1];
    let mut index = 0;
    while index < ROWS.len() {
        let row = &ROWS[index];
        commands[index] = Command::raw(row.name, row.place.allowed(), carry_out, row.arguments);
        index += 1;
    }
    CommandTable::new(commands)
};

/// What carries out a directive.
type Apply = fn(&mut Directive<'_>) -> Result<(), String>;

fn apply(name: &str) -> Option<Apply> {
    Some(match name {
        "WSGIHandlerScript" => script::handler_script,
        "WSGIScriptAlias" => script::script_alias,
        "WSGICallableObject" => script::callable_object,
        "WSGIScriptReloading" => script::script_reloading,
        "WSGIPassAuthorization" => script::pass_authorization,
        "WSGIProcessGroup" => group::process_group,
        "WSGIApplicationGroup" => group::application_group,
        "WSGIAccessScript" => hook::access_script,
        "WSGIAuthUserScript" => hook::auth_user_script,
        "WSGIAuthGroupScript" => hook::auth_group_script,
        "WSGIGroupAuthoritative" => hook::group_authoritative,
        "WSGIDispatchScript" => hook::dispatch_script,
        "WSGIRestrictEmbedded" => process::restrict_embedded,
        "WSGIPythonHome" => process::python_home,
        "WSGIPythonPath" => process::python_path,
        "WSGIPerInterpreterGIL" => process::own_gil,
        "WSGIInterpreterThreads" => process::interpreter_threads,
        "WSGIInterpreterLimit" => process::interpreter_limit,
        _ => return None,
    })
}

/// A directive as httpd met it.
struct Directive<'a> {
    parameters: *mut cmd_parms,
    section: *mut c_void,
    row: &'static Row,
    name: &'a str,
    words: Words<'a>,
}

/// httpd calls this for every row of the table, with the rest of the directive's line.
unsafe extern "C" fn carry_out(
    parameters: *mut cmd_parms,
    section: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd passes live parameters, whose pool outlives the configuration.
    let pool: *mut apr_pool_t = unsafe { (*parameters).pool };
    boundary::directive(pool, || {
        // SAFETY: httpd passes the row that matched, whose name is one of our literals.
        let name = unsafe { CStr::from_ptr((*(*parameters).cmd).name) };
        // SAFETY: raw arguments are a C string, possibly empty.
        let text = unsafe { CStr::from_ptr(arguments) };
        let words = Words::new(text.to_bytes());
        let name = name.to_str().expect("ASCII");
        let row = ROWS.iter().find(|row| row.name.to_bytes() == name.as_bytes());
        let row = row.expect("httpd knows our rows only");
        let mut directive = Directive { parameters, section, row, name, words };
        directive.check_place()?;
        apply(name).ok_or_else(|| format!("{name} does nothing yet"))?(&mut directive)
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

    /// Whether it stands in a .htaccess file, which is read while requests are served: nothing but
    /// its own section may be written to then.
    fn in_htaccess(&self) -> bool {
        // SAFETY: httpd's parameters are live for the call.
        unsafe { !ap_check_cmd_context(self.parameters, NOT_IN_HTACCESS).is_null() }
    }

    /// The record of the section the directive stands in.
    fn section(&mut self) -> &mut crate::config::DirectoryConfig {
        // SAFETY: httpd passed it to a directive of this module, and the next directive runs only
        // when this one is done.
        unsafe { crate::config::directory(self.section) }
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

/// The words of a line that is written as those of directives are.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut words = Words::new(line);
    std::iter::from_fn(move || words.word())
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
