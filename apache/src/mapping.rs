//! WSGIScriptAlias and WSGIScriptAliasMatch: from URL paths to script files.

use crate::boundary;
use crate::config::{AliasedPaths, ScriptAlias, ServerConfig};
use crate::request::Request;
use httpd_sys::*;
use std::ffi::{CStr, c_int};
use std::sync::Arc;

/// The handler of script files.
const SCRIPT_HANDLER: &CStr = c"wsgi-script";

/// The note under which mod_alias, and we, say that a mapping has chosen the handler.
const FORCED_TYPE: &CStr = c"alias-forced-type";

/// The note that says which alias has mapped a request: its place in the server's list. A note
/// stays with the request when mod_dir puts the index file in its place.
const ALIAS: &CStr = c"mod_manifold.alias";

/// Translates the URL path into a file name; runs after mod_alias, so `Alias` wins.
pub(crate) unsafe extern "C" fn translate(raw: *mut request_rec) -> c_int {
    boundary::hook(|| {
        // SAFETY: httpd calls the hook with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        let uri = r.text(r.record().uri);
        if !uri.is_empty() && uri[0] != b'/' {
            return DECLINED;
        }
        let aliases = aliases(r);
        let matches = |alias: &ScriptAlias| match &alias.from {
            AliasedPaths::Prefix(prefix) => map(uri, prefix, alias.target.to_bytes()),
            AliasedPaths::Pattern(pattern) => pattern.expand(r, uri, &alias.target),
        };
        let found = aliases.iter().enumerate().find_map(|(at, alias)| Some((at, matches(alias)?)));
        let Some((at, filename)) = found else { return DECLINED };
        let filename = r.copy(&filename);
        r.update(|record| {
            record.filename = filename;
            record.handler = SCRIPT_HANDLER.as_ptr();
        });
        let (notes, place) = (r.record().notes, r.copy(at.to_string().as_bytes()));
        // SAFETY: the request's notes, the literals and the copy live as long as the request.
        unsafe { apr_table_setn(notes, FORCED_TYPE.as_ptr(), SCRIPT_HANDLER.as_ptr()) };
        // SAFETY: see above.
        unsafe { apr_table_setn(notes, ALIAS.as_ptr(), place) };
        OK as c_int
    })
}

/// The alias that has mapped a request.
pub(crate) fn alias_of<'r>(r: Request<'r>) -> Option<&'r ScriptAlias> {
    let place = r.lookup(r.record().notes, ALIAS)?;
    let place: usize = std::str::from_utf8(place).ok()?.parse().ok()?;
    aliases(r).get(place).map(AsRef::as_ref)
}

/// The script aliases of the server that a request is for.
fn aliases(r: Request<'_>) -> &[Arc<ScriptAlias>] {
    &server_config(r).aliases
}

/// Whether paths that differ in case only are different scripts (WSGICaseSensitivity).
pub(crate) fn case_sensitive(r: Request<'_>) -> bool {
    server_config(r).case_sensitivity.unwrap_or(true)
}

/// What the server that a request is for says, with what the main server says.
pub(crate) fn server_config(r: Request<'_>) -> &ServerConfig {
    // SAFETY: the record is of this type, and nobody changes it once requests are served.
    unsafe { &*r.server_configuration().cast::<ServerConfig>() }
}

/// The file name of a URL path under an alias, or `None` where it does not begin like that.
///
/// A run of slashes in the alias matches any run in the URL. Behind it the URL ends or goes on with
/// a slash, unless the alias ends in one itself. The whole path goes to a target at the root.
fn map(uri: &[u8], prefix: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut rest = uri;
    let mut wanted = prefix;
    while let Some((&byte, more)) = wanted.split_first() {
        if rest.first() != Some(&byte) {
            return None;
        }
        if byte == b'/' {
            wanted = trim_slashes(wanted);
            rest = trim_slashes(rest);
        } else {
            wanted = more;
            rest = &rest[1..];
        }
    }
    if !prefix.ends_with(b"/") && !matches!(rest.first(), None | Some(b'/')) {
        return None;
    }
    let at_root = trim_slashes(prefix).is_empty();
    Some([target, if at_root { uri } else { rest }].concat())
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}

#[cfg(test)]
mod tests {
    fn map(uri: &str, prefix: &str, target: &str) -> Option<String> {
        let mapped = super::map(uri.as_bytes(), prefix.as_bytes(), target.as_bytes());
        mapped.map(|name| String::from_utf8(name).unwrap())
    }

    #[test]
    fn an_alias_maps_what_begins_with_it_and_stops_at_a_slash() {
        let mapped = |name: &str| Some(name.to_owned());
        assert_eq!(map("/app", "/app", "/p/a.wsgi"), mapped("/p/a.wsgi"));
        assert_eq!(map("/app/", "/app", "/p/a.wsgi"), mapped("/p/a.wsgi/"));
        assert_eq!(map("/app/x", "/app", "/p/a.wsgi"), mapped("/p/a.wsgi/x"));
        assert_eq!(map("/application", "/app", "/p/a.wsgi"), None);
        assert_eq!(map("/ap", "/app", "/p/a.wsgi"), None);
        assert_eq!(map("/APP", "/app", "/p/a.wsgi"), None);
    }

    #[test]
    fn slashes_of_alias_and_target_are_kept_as_they_are_written() {
        let mapped = |name: &str| Some(name.to_owned());
        assert_eq!(map("/x/y", "/", "/p/a.wsgi"), mapped("/p/a.wsgi/x/y"));
        assert_eq!(map("/d/a.wsgi/x", "/d/", "/p/"), mapped("/p/a.wsgi/x"));
        assert_eq!(map("/d/a", "/d/", "/p"), mapped("/pa"));
        assert_eq!(map("/d/a", "/d", "/p/"), mapped("/p//a"));
        assert_eq!(map("/d", "/d/", "/p/"), None);
        assert_eq!(map("//d///e/f", "/d/e", "/p"), mapped("/p/f"));
        assert_eq!(map("/de/f", "/d/e", "/p"), None);
    }
}
