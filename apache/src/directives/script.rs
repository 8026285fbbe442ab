//! WSGIHandlerScript and WSGIPassAuthorization.

use super::words::Option_;
use super::{Directive, Record, parse_on_off, run};
use crate::config::{self, GroupRule, HandlerScript};
use httpd_sys::cmd_parms;
use manifold::Script;
use std::ffi::c_char;
use std::sync::Arc;

/// The callable of every handler script.
pub(crate) const HANDLER_CALLABLE: &[u8] = b"handle_request";

const OPTIONS: &str = "process-group=, application-group= and pass-authorization=On|Off";

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
            let mut handler = HandlerScript {
                script: Arc::new(script),
                process_group: None,
                application_group: None,
                pass_authorization: None,
            };
            while let Some(option) = directive.words.option() {
                set_option(directive, &mut handler, option)?;
            }
            config::directory(record).add_handler(name, handler);
            Ok(())
        })
    }
}

fn set_option(
    directive: &Directive<'_>,
    handler: &mut HandlerScript,
    option: Option_,
) -> Result<(), String> {
    let (name, value) = match option {
        Option_::Pair(name, value) => (name, value),
        Option_::Invalid(word) => {
            return Err(
                directive.refuse(&word, &format!("an option (name=value); accepted are {OPTIONS}"))
            );
        }
    };
    let not_empty = |what: &str| {
        if value.is_empty() {
            return Err(format!(
                "{}: {what} is empty; give a name, or %{{GLOBAL}}",
                directive.name
            ));
        }
        Ok(GroupRule::parse(&value))
    };
    match &name[..] {
        b"process-group" => handler.process_group = Some(not_empty("process-group=")?),
        b"application-group" => handler.application_group = Some(not_empty("application-group=")?),
        b"pass-authorization" => {
            let flag = parse_on_off(&value)
                .ok_or_else(|| directive.refuse(&value, "On or Off (pass-authorization=)"))?;
            handler.pass_authorization = Some(flag);
        }
        _ => return Err(directive.refuse(&name, &format!("an option; accepted are {OPTIONS}"))),
    }
    Ok(())
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
