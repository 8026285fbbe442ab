//! The directives that say which script answers: WSGIHandlerScript, WSGIScriptAlias,
//! WSGIScriptAliasMatch, WSGICallableObject, WSGIScriptReloading and WSGIPassAuthorization; and
//! WSGIImportScript, which loads one ahead.

use super::words::OptionWord;
use super::{Directive, parse_on_off};
use crate::config::{AliasedPaths, HandlerScript, Options, Preload, ScriptAlias};
use crate::pattern::Pattern;
use crate::process_groups::{Unusable, usable};
use crate::selectors::{CallableRule, DEFAULT_CALLABLE, GroupRule};
use manifold::{GroupName, PYTHON_VERSION, REPLACES_INTERPRETERS, Reload, Script};
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
    alias(directive, AliasedPaths::Prefix(prefix))
}

/// `WSGIScriptAliasMatch regex file-or-directory [options]`: the same by a regular expression.
pub(super) fn script_alias_match(directive: &mut Directive<'_>) -> Result<(), String> {
    let expression = directive.required("regular expression")?;
    let text = directive.c_string(&expression)?;
    // SAFETY: the pool of the configuration, in which the alias stays.
    let pattern = unsafe { Pattern::compile((*directive.parameters).pool, &text) };
    let pattern = pattern.ok_or_else(|| directive.refuse(&expression, "a regular expression"))?;
    alias(directive, AliasedPaths::Pattern(pattern))
}

fn alias(directive: &mut Directive<'_>, from: AliasedPaths) -> Result<(), String> {
    let target = directive.required("path of the script or directory")?;
    let target = directive.c_string(&target)?;
    let accepted =
        "process-group=, application-group=, callable-object= and pass-authorization=On|Off";
    let options = options(directive, accepted)?;
    // Where it is clear which interpreter of which process will answer, the script is loaded there
    // before the first request comes.
    if let (Some(GroupRule::Fixed(process)), Some(group @ GroupRule::Fixed(application))) =
        (&options.process_group, &options.application_group)
        && !contains_form(process.as_bytes())
        && !contains_form(application.as_bytes())
        && !(matches!(from, AliasedPaths::Pattern(_)) && target.to_bytes().contains(&b'$'))
    {
        preload(directive, target.to_bytes(), true, process.clone(), group.clone())?;
    }
    directive.server().aliases.push(Arc::new(ScriptAlias { from, target, options }));
    Ok(())
}

fn contains_form(name: &[u8]) -> bool {
    name.windows(2).any(|pair| pair == b"%{")
}

/// `WSGIImportScript path process-group=G application-group=A`: loads a script when a process
/// starts.
pub(super) fn import_script(directive: &mut Directive<'_>) -> Result<(), String> {
    let path = directive.required("path of the script")?;
    let accepted = "process-group= and application-group=";
    let options = options(directive, accepted)?;
    if options.callable.is_some() || options.pass_authorization.is_some() {
        return Err(format!("{}: accepted are {accepted} only", directive.name));
    }
    let (Some(process), Some(application)) = (options.process_group, options.application_group)
    else {
        return Err(format!(
            "{}: which interpreter is to load '{}'? Both process-group= (%{{GLOBAL}} for httpd's own \
             processes) and application-group= are needed",
            directive.name,
            String::from_utf8_lossy(&path)
        ));
    };
    match process {
        GroupRule::Fixed(process) => {
            let embedded = process.is_main();
            preload(directive, &path, false, process, application)?;
            directive.server().needs_python |= embedded;
            Ok(())
        }
        _ => Err(format!(
            "{}: process-group= needs a name or %{{GLOBAL}} here: no request says what another form \
             stands for",
            directive.name
        )),
    }
}

/// Has the script loaded by each process of the group when it starts.
fn preload(
    directive: &mut Directive<'_>,
    path: &[u8],
    of_alias: bool,
    process_group: GroupName,
    application_group: GroupRule,
) -> Result<(), String> {
    if !process_group.is_main() {
        // SAFETY: httpd's parameters and their server are live for the call.
        let server = unsafe { &*(*directive.parameters).server };
        let name = directive.name;
        match usable(&directive.main_server().daemons, &process_group, server) {
            Ok(_) => {}
            Err(Unusable::Undefined) => {
                return Err(format!(
                    "{name}: no daemon process '{process_group}' is configured so far, and \
                     WSGIDaemonProcess has to stand before this; %{{GLOBAL}} stands for httpd's own \
                     processes"
                ));
            }
            Err(Unusable::Elsewhere(daemon)) => {
                return Err(format!("{name}: {}", daemon.not_for(server)));
            }
        }
    }
    let script = Script::new(path, DEFAULT_CALLABLE)
        .map_err(|_| directive.refuse(path, "a path without NUL bytes"))?;
    let preload = Preload { process_group, script: Arc::new(script), of_alias, application_group };
    directive.server().preloads.push(Arc::new(preload));
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

/// `WSGIScriptReloading On|Off|Interpreter`: what is done where a script has changed.
pub(super) fn script_reloading(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("value")?;
    let value = match word.to_ascii_lowercase().as_slice() {
        b"on" => Reload::Module,
        b"off" => Reload::Never,
        b"interpreter" => Reload::Interpreter,
        _ => return Err(directive.refuse(&word, "On, Off or Interpreter")),
    };
    if value == Reload::Interpreter && !REPLACES_INTERPRETERS {
        directive.note(&format!(
            "Interpreter works as On: this Python {PYTHON_VERSION} cannot end an interpreter safely; 3.14 \
             and later can"
        ));
    }
    directive.section().script_reloading = Some(value);
    Ok(())
}

/// `WSGIPassAuthorization On|Off`: whether applications see the Authorization header.
pub(super) fn pass_authorization(directive: &mut Directive<'_>) -> Result<(), String> {
    let value = directive.on_off()?;
    directive.section().pass_authorization = Some(value);
    Ok(())
}
