//! The directives that say which script answers: WSGIHandlerScript, WSGIScriptAlias,
//! WSGICallableObject, WSGIScriptReloading and WSGIPassAuthorization.

use super::words::OptionWord;
use super::{Directive, Record, parse_on_off, run};
use crate::config::{self, CallableRule, GroupRule, HandlerScript, Options, ScriptAlias};
use httpd_sys::cmd_parms;
use manifold::Script;
use std::ffi::c_char;
use std::sync::Arc;

/// The callable of every handler script.
const HANDLER_CALLABLE: &[u8] = b"handle_request";

/// `WSGIHandlerScript name path [options]`: registers a script as a handler.
pub(super) unsafe extern "C" fn handler_script(
    parameters: *mut cmd_parms,
    record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let name = directive.required("name of the handler")?;
            let path = directive.required("path of the script")?;
            let script = Script::new(&path, HANDLER_CALLABLE)
                .map_err(|_| directive.refuse(&path, "a path without NUL bytes"))?;
            let accepted = "process-group=, application-group= and pass-authorization=On|Off";
            let options = options(directive, accepted)?;
            if options.callable.is_some() {
                return Err(format!(
                    "{}: callable-object= is not an option here: a handler script answers by its \
                     handle_request; accepted are {accepted}",
                    directive.name
                ));
            }
            config::directory(record)
                .add_handler(name, HandlerScript { script: Arc::new(script), options });
            Ok(())
        })
    }
}

/// `WSGIScriptAlias url-path file-or-directory [options]`: maps URLs to scripts.
pub(super) unsafe extern "C" fn script_alias(
    parameters: *mut cmd_parms,
    _record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let prefix = directive.required("URL path")?;
            let target = directive.required("path of the script or directory")?;
            let accepted = "process-group=, application-group=, callable-object= and pass-authorization=On|Off";
            let options = options(directive, accepted)?;
            let alias = ScriptAlias { prefix, target, options };
            directive.server().aliases.push(Arc::new(alias));
            Ok(())
        })
    }
}

/// The options at the end of a script directive.
fn options(directive: &mut Directive<'_>, accepted: &str) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(option) = directive.words.option() {
        let (name, value) = match option {
            OptionWord::Pair(name, value) => (name, value),
            OptionWord::Invalid(word) => {
                let what = format!("an option (name=value); accepted are {accepted}");
                return Err(directive.refuse(&word, &what));
            }
        };
        let required = |what: &str| {
            if value.is_empty() {
                return Err(format!("{}: {what} is empty; it needs a value", directive.name));
            }
            Ok(&value[..])
        };
        match &name[..] {
            b"process-group" => {
                options.process_group = Some(GroupRule::parse(required("process-group=")?));
            }
            b"application-group" => {
                options.application_group = Some(GroupRule::parse(required("application-group=")?));
            }
            b"callable-object" => {
                options.callable = Some(required("callable-object=")?.to_vec());
            }
            b"pass-authorization" => {
                let flag = parse_on_off(&value)
                    .ok_or_else(|| directive.refuse(&value, "On or Off (pass-authorization=)"))?;
                options.pass_authorization = Some(flag);
            }
            _ => {
                let what = format!("an option; accepted are {accepted}");
                return Err(directive.refuse(&name, &what));
            }
        }
    }
    Ok(options)
}

/// `WSGICallableObject name`: what answers in a script file.
pub(super) unsafe extern "C" fn callable_object(
    parameters: *mut cmd_parms,
    record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let name = directive.only("name of the callable")?;
            config::directory(record).callable = Some(CallableRule::parse(&name));
            Ok(())
        })
    }
}

/// `WSGIScriptReloading On|Off`: whether a script that has changed is loaded again.
pub(super) unsafe extern "C" fn script_reloading(
    parameters: *mut cmd_parms,
    record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            config::directory(record).script_reloading = Some(directive.on_off()?);
            Ok(())
        })
    }
}

/// `WSGIPassAuthorization On|Off`: whether applications see the Authorization header.
pub(super) unsafe extern "C" fn pass_authorization(
    parameters: *mut cmd_parms,
    record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            config::directory(record).pass_authorization = Some(directive.on_off()?);
            Ok(())
        })
    }
}
