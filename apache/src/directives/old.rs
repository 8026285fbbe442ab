//! Directives that earlier major versions of mod_wsgi had. A configuration that still has them is
//! accepted; a line for each says that they do nothing.

use super::Directive;

/// Any of them, whatever its arguments.
pub(super) fn directive(directive: &mut Directive<'_>) -> Result<(), String> {
    directive.note("is of an earlier version of mod_wsgi and does nothing; it may be removed");
    Ok(())
}
