//! The directives: one row each, and a file for each topic.

mod group;
mod process;
mod script;
mod words;

use crate::boundary;
use httpd_sys::{
    ACCESS_CONF, Command, CommandTable, GLOBAL_ONLY, NOT_IN_DIR_CONTEXT, OR_FILEINFO, RSRC_CONF,
    ap_check_cmd_context, apr_pool_t, cmd_parms,
};
use std::ffi::{CStr, c_char, c_void};
use words::Words;

/// Server config, virtual host and sections, but not .htaccess.
const SECTIONS: u32 = RSRC_CONF | ACCESS_CONF;

/// Every directive of this module.
pub(crate) static TABLE: CommandTable<14> = CommandTable::new([
    Command::raw(
        c"WSGIHandlerScript",
        OR_FILEINFO,
        script::handler_script,
        c"name path [process-group=...] [application-group=...] [pass-authorization=On|Off]",
    ),
    Command::raw(
        c"WSGIScriptAlias",
        RSRC_CONF,
        script::script_alias,
        c"url-path file-or-directory [process-group=...] [application-group=...] [callable-object=...] [pass-authorization=On|Off]",
    ),
    Command::raw(
        c"WSGICallableObject",
        OR_FILEINFO,
        script::callable_object,
        c"name of the callable in script files",
    ),
    Command::raw(c"WSGIScriptReloading", OR_FILEINFO, script::script_reloading, c"On|Off"),
    Command::raw(c"WSGIRestrictEmbedded", RSRC_CONF, process::restrict_embedded, c"On|Off"),
    Command::raw(
        c"WSGIProcessGroup",
        SECTIONS,
        group::process_group,
        c"name, or %{GLOBAL} for none",
    ),
    Command::raw(
        c"WSGIApplicationGroup",
        SECTIONS,
        group::application_group,
        c"name, %{GLOBAL}, %{RESOURCE}, %{SERVER}, %{HOST} or %{ENV:name}",
    ),
    Command::raw(c"WSGIPassAuthorization", OR_FILEINFO, script::pass_authorization, c"On|Off"),
    Command::raw(
        c"WSGIPythonHome",
        RSRC_CONF,
        process::python_home,
        c"prefix of a Python or virtual environment",
    ),
    Command::raw(
        c"WSGIPythonPath",
        RSRC_CONF,
        process::python_path,
        c"directories, separated by colons",
    ),
    Command::raw(c"WSGIPerInterpreterGIL", RSRC_CONF, process::own_gil, c"On|Off|Auto"),
    Command::raw(
        c"WSGIInterpreterThreads",
        RSRC_CONF,
        process::interpreter_threads,
        c"number, 1 or more",
    ),
    Command::raw(
        c"WSGIInterpreterLimit",
        RSRC_CONF,
        process::interpreter_limit,
        c"number, 2 or more",
    ),
    Command::end(),
]);

/// A directive as httpd met it.
struct Directive<'a> {
    parameters: *mut cmd_parms,
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
        let name = name.to_str().expect("names of directives are ASCII");
        let mut directive = Directive { parameters, name, words: Words::new(text.to_bytes()) };
        body(&mut directive)
    })
}

impl Directive<'_> {
    /// Refuses the directive outside the main server config.
    fn main_server_only(&self) -> Result<(), String> {
        // SAFETY: httpd's parameters are live for the call.
        let refusal = unsafe { ap_check_cmd_context(self.parameters, GLOBAL_ONLY) };
        if refusal.is_null() {
            return Ok(());
        }
        Err(format!(
            "{0} is about whole processes: it is accepted in the main server config only, not inside \
             <VirtualHost> or other sections",
            self.name
        ))
    }

    /// Refuses the directive inside a section.
    fn servers_only(&self) -> Result<(), String> {
        // SAFETY: httpd's parameters are live for the call.
        let refusal = unsafe { ap_check_cmd_context(self.parameters, NOT_IN_DIR_CONTEXT) };
        if refusal.is_null() {
            return Ok(());
        }
        Err(format!(
            "{} is about the URL space of a server: it is accepted in server config and \
             <VirtualHost> only, not inside other sections",
            self.name
        ))
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

/// What httpd passes to a directive: parameters, the section's record, and the rest of the line.
type Record = *mut c_void;
