//! The directives that say which script answers: WSGIHandlerScript, WSGIScriptAlias,
//! WSGICallableObject, WSGIScriptReloading and WSGIPassAuthorization.

use super::words::OptionWord;
use super::{Directive, parse_on_off};
use crate::config::{CallableRule, GroupRule, HandlerScript, Options, ScriptAlias};
use manifold::Script;
use std::sync::Arc;

/// The callable of every handler script.
const HANDLER_CALLABLE: &[u8] = b"handle_request";

/// `WSGIHandlerScript name path [options]`: registers a script as a handler.
pub(super) fn handler_script(directive: &mut Directive<'_>) -> Result<(), String> {
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
    directive.section().add_handler(name, HandlerScript { script: Arc::new(script), options });
    Ok(())
}

/// `WSGIScriptAlias url-path file-or-directory [options]`: maps URLs to scripts.
pub(super) fn script_alias(directive: &mut Directive<'_>) -> Result<(), String> {
    let prefix = directive.required("URL path")?;
    let target = directive.required("path of the script or directory")?;
    let accepted =
        "process-group=, application-group=, callable-object= and pass-authorization=On|Off";
    let options = options(directive, accepted)?;
    let alias = ScriptAlias { prefix, target, options };
    directive.server().aliases.push(Arc::new(alias));
    Ok(())
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
pub(super) fn callable_object(directive: &mut Directive<'_>) -> Result<(), String> {
    let name = directive.only("name of the callable")?;
    let value = CallableRule::parse(&name);
    directive.section().callable = Some(value);
    Ok(())
}

/// `WSGIScriptReloading On|Off`: whether a script that has changed is loaded again.
pub(super) fn script_reloading(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.section().script_reloading = Some(value);
    Ok(())
}

/// `WSGIPassAuthorization On|Off`: whether applications see the Authorization header.
pub(super) fn pass_authorization(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.section().pass_authorization = Some(value);
    Ok(())
}
