//! WSGIProcessGroup and WSGIApplicationGroup.

use super::Directive;
use crate::selectors::GroupRule;

/// `WSGIProcessGroup name`: the processes that answer; `%{GLOBAL}` for httpd's own.
pub(super) fn process_group(directive: &mut Directive<'_>) -> Result<(), String> {
    let name = directive.only("name of the process group")?;
    let value = GroupRule::parse(&name);
    directive.section().process_group = Some(value);
    Ok(())
}

/// `WSGIApplicationGroup name`: the interpreter that answers; `%{GLOBAL}` for the main one.
pub(super) fn application_group(directive: &mut Directive<'_>) -> Result<(), String> {
    let name = directive.only("name of the application group")?;
    let value = GroupRule::parse(&name);
    directive.section().application_group = Some(value);
    Ok(())
}
