//! The directives that name hook scripts: WSGIAccessScript, WSGIAuthUserScript,
//! WSGIAuthGroupScript and WSGIDispatchScript; and WSGIGroupAuthoritative.

use super::Directive;
use super::words::OptionWord;
use crate::config::HookScript;
use crate::selectors::GroupRule;
use manifold::Script;
use std::sync::Arc;

/// `WSGIAccessScript path [application-group=A]`: who may come in, by where they come from.
pub(super) fn access_script(directive: &mut Directive<'_>) -> Result<(), String> {
    let hook = hook(directive)?;
    directive.section().access_script = Some(hook);
    Ok(())
}

/// `WSGIAuthUserScript path [application-group=A]`: whose password is right.
pub(super) fn auth_user_script(directive: &mut Directive<'_>) -> Result<(), String> {
    let hook = hook(directive)?;
    directive.section().auth_user_script = Some(hook);
    Ok(())
}

/// `WSGIAuthGroupScript path [application-group=A]`: who belongs to which group.
pub(super) fn auth_group_script(directive: &mut Directive<'_>) -> Result<(), String> {
    let hook = hook(directive)?;
    directive.section().auth_group_script = Some(hook);
    Ok(())
}

/// `WSGIDispatchScript path [application-group=A]`: where a request is served.
pub(super) fn dispatch_script(directive: &mut Directive<'_>) -> Result<(), String> {
    let hook = hook(directive)?;
    directive.section().dispatch_script = Some(hook);
    Ok(())
}

/// `WSGIGroupAuthoritative On|Off`: of httpd 2.2; in 2.4 `<RequireAny>` and the like say it.
pub(super) fn group_authoritative(directive: &mut Directive<'_>) -> Result<(), String> {
    directive.on_off().map(drop)
}

/// The script of a hook, and the options behind it.
fn hook(directive: &mut Directive<'_>) -> Result<Arc<HookScript>, String> {
    let path = directive.required("path of the script")?;
    // Functions of it are called by their own names.
    let script =
        Script::new(&path, b"").map_err(|_| directive.refuse(&path, "a path without NUL bytes"))?;
    let mut application_group = GroupRule::default();
    while let Some(option) = directive.words.option() {
        match option {
            OptionWord::Pair(name, value) if name == b"application-group" => {
                if value.is_empty() {
                    return Err(format!(
                        "{}: application-group= is empty; it needs a value",
                        directive.name
                    ));
                }
                application_group = GroupRule::parse_for_hook(&value);
            }
            OptionWord::Pair(word, _) | OptionWord::Invalid(word) => {
                let accepted = "an option; accepted is application-group=";
                return Err(directive.refuse(&word, accepted));
            }
        }
    }
    if !directive.in_htaccess() {
        directive.server().needs_python = true;
    }
    Ok(Arc::new(HookScript { script: Arc::new(script), application_group }))
}
