//! The directives: one row each, and a file for each topic.

mod daemon;
mod group;
mod hook;
mod old;
mod options;
mod process;
mod request;
mod rows;
mod runtime;
mod script;
mod sockets;
mod telemetry;
mod words;

use crate::boundary;
use crate::process_groups::Host;
use httpd_sys::{
    AP_SQ_MAIN_STATE, AP_SQ_MS_RUN_MPM, Command, CommandTable, NOT_IN_HTACCESS,
    ap_check_cmd_context, ap_server_conf, ap_state_query, apr_pool_t, cmd_parms,
};
use manifold::{Code, Level};
use rows::{ROWS, Row};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
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
        "WSGIScriptAliasMatch" => script::script_alias_match,
        "WSGIImportScript" => script::import_script,
        "WSGICallableObject" => script::callable_object,
        "WSGIScriptReloading" => script::script_reloading,
        "WSGIPassAuthorization" => script::pass_authorization,
        "WSGIDaemonProcess" => daemon::daemon_process,
        "WSGIProcessGroup" => group::process_group,
        "WSGIApplicationGroup" => group::application_group,
        "WSGIChunkedRequest" => request::chunked_request,
        "WSGIErrorOverride" => request::error_override,
        "WSGIMapHEADToGET" => request::map_head_to_get,
        "WSGIEnableSendfile" => request::enable_sendfile,
        "WSGITrustedProxyHeaders" => request::trusted_proxy_headers,
        "WSGITrustedProxies" => request::trusted_proxies,
        "WSGIPassApacheRequest" => request::pass_apache_request,
        "WSGIRequestTimeout" => request::request_timeout,
        "WSGIIgnoreActivity" => request::ignore_activity,
        "WSGIRestrictProcess" => request::restrict_process,
        "WSGICaseSensitivity" => process::case_sensitivity,
        "WSGIAccessScript" => hook::access_script,
        "WSGIAuthUserScript" => hook::auth_user_script,
        "WSGIAuthGroupScript" => hook::auth_group_script,
        "WSGIGroupAuthoritative" => hook::group_authoritative,
        "WSGIDispatchScript" => hook::dispatch_script,
        "WSGIRestrictEmbedded" => process::restrict_embedded,
        "WSGIPythonHome" => process::python_home,
        "WSGIPythonOptimize" => runtime::python_optimize,
        "WSGIPythonWarnings" => runtime::python_warnings,
        "WSGIPythonHashSeed" => runtime::python_hash_seed,
        "WSGIDontWriteBytecode" => runtime::dont_write_bytecode,
        "WSGIPythonEggs" => runtime::python_eggs,
        "WSGIDestroyInterpreter" => runtime::destroy_interpreter,
        "WSGIPythonPath"
        | "WSGIPerInterpreterGIL"
        | "WSGIReplicas"
        | "WSGIInterpreterMaximumRequests"
        | "WSGIFreeThreading"
        | "WSGISwitchInterval"
        | "WSGIQueueLimit"
        | "WSGIRestrictStdin"
        | "WSGIRestrictStdout"
        | "WSGIRestrictSignal" => options::for_all,
        "WSGIInterpreterOptions" => options::block,
        "WSGISlowRequests" => runtime::slow_requests,
        "WSGIVerboseDebugging" => runtime::verbose_debugging,
        "WSGIServerMetrics" => runtime::server_metrics,
        "WSGITelemetryService" => telemetry::service,
        "WSGITelemetryOptions" => telemetry::options,
        "WSGISocketPrefix" => sockets::socket_prefix,
        "WSGISocketRotation" => sockets::socket_rotation,
        "WSGIAcceptMutex" => sockets::accept_mutex,
        "WSGILazyInitialization"
        | "WSGIReloadMechanism"
        | "WSGIOutputBuffering"
        | "WSGIPy3kWarningFlag"
        | "WSGIPythonExecutable"
        | "WSGIUserAuthoritative" => old::directive,
        "WSGIDaemonWorker" => process::daemon_worker,
        "WSGIInterpreterThreads" => process::interpreter_threads,
        "WSGIInterpreterLimit" => process::interpreter_limit,
        "WSGIResponseBufferLimit" => process::response_buffer_limit,
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
        let row = ROWS.iter().find(|row| row.name == name);
        let row = row.expect("httpd knows our rows only");
        let name = row.plain_name();
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

    /// The record of the main server, whichever server the directive stands in.
    fn main_server(&mut self) -> &mut crate::config::ServerConfig {
        // SAFETY: httpd's parameters are live for the call.
        let server = unsafe { (*self.parameters).server };
        // SAFETY: see above, so is the server in them.
        let main = if unsafe { (*server).is_virtual } == 0 {
            server
        } else {
            // SAFETY: httpd sets it before it carries out directives, on this thread.
            unsafe { ap_server_conf }
        };
        assert!(!main.is_null(), "httpd knows its main server while it carries out directives");
        // SAFETY: directives run one after the other, and the reference ends with this one.
        unsafe { crate::config::server(main) }
    }

    /// The virtual host the directive stands in.
    fn host(&self) -> Option<Host> {
        // SAFETY: httpd's parameters and their server are live for the call, and the server for as
        // long as its record.
        unsafe { Host::of((*self.parameters).server) }
    }

    /// Its file and line.
    fn place(&self) -> String {
        // SAFETY: httpd's parameters are live for the call, and so is the tree of directives.
        let at = unsafe { &*(*self.parameters).directive };
        // SAFETY: httpd keeps the name of a file as a C string.
        let file = unsafe { CStr::from_ptr(at.filename) }.to_string_lossy();
        format!("line {} of {file}", at.line_num)
    }

    /// The text as C wants it.
    fn c_string(&self, text: &[u8]) -> Result<CString, String> {
        CString::new(text).map_err(|_| self.refuse(text, "a text without NUL bytes"))
    }

    /// The next word, which has to be there and not be empty.
    fn required(&mut self, what: &str) -> Result<Vec<u8>, String> {
        self.words.required(self.name, what)
    }

    /// The only word there may be.
    fn only(&mut self, what: &str) -> Result<Vec<u8>, String> {
        Words::new(self.words.take_rest()).only(self.name, what)
    }

    /// All words, of which there has to be one.
    fn all(&mut self, what: &str) -> Result<Vec<Vec<u8>>, String> {
        let mut words = vec![self.required(what)?];
        words.extend(std::iter::from_fn(|| self.words.word()));
        Ok(words)
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
        refusal(self.name, given, accepted)
    }

    /// Has a warning about this directive logged when the server starts: what became of it.
    fn note(&mut self, what: &str) {
        self.note_about(self.name, what);
    }

    /// The same, for a directive inside this one.
    fn note_about(&mut self, name: &str, what: &str) {
        self.keep_note(Level::Warning, format!("{}: {name} {what}", Code::OptionIgnored));
    }

    /// The same, at level info.
    fn note_info(&mut self, what: &str) {
        self.keep_note(Level::Info, format!("{}: {} {what}", Code::OptionIgnored, self.name));
    }

    /// Not in .htaccess, which httpd reads for each request.
    fn keep_note(&mut self, level: Level, text: String) {
        // SAFETY: it takes a number and returns one.
        if unsafe { ap_state_query(AP_SQ_MAIN_STATE as c_int) } == AP_SQ_MS_RUN_MPM as c_int {
            return;
        }
        let notes = &mut self.server().notes;
        if !notes.iter().any(|(_, other)| *other == text) {
            notes.push((level, text));
        }
    }
}

fn refusal(name: &str, given: &[u8], accepted: &str) -> String {
    format!("{name}: '{}' is not {accepted}", String::from_utf8_lossy(given))
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
