//! What the configuration says, as it was written, and how more specific sections override less
//! specific ones.
//!
//! Directives about requests live in the per-directory record. httpd gives each server one as the
//! base of all its sections, so server config, virtual host, section and .htaccess are one chain
//! and one merge. Directives about processes live in the record of the main server.

use crate::{boundary, wsgi_module};
use httpd_sys::{apr_pool_cleanup_null, apr_pool_cleanup_register, apr_pool_t, server_rec};
use manifold::{GroupName, Script};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::Arc;

/// What a directory-like section says. `None` leaves it to the less specific ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirectoryConfig {
    /// WSGIHandlerScript, by handler name.
    pub(crate) handlers: Option<Arc<HandlerTable>>,
    /// WSGIProcessGroup.
    pub(crate) process_group: Option<GroupRule>,
    /// WSGIApplicationGroup.
    pub(crate) application_group: Option<GroupRule>,
    /// WSGICallableObject.
    pub(crate) callable: Option<CallableRule>,
    /// WSGIPassAuthorization.
    pub(crate) pass_authorization: Option<bool>,
    /// WSGIScriptReloading.
    pub(crate) script_reloading: Option<bool>,
    /// WSGIAccessScript.
    pub(crate) access_script: Option<Arc<HookScript>>,
    /// WSGIAuthUserScript.
    pub(crate) auth_user_script: Option<Arc<HookScript>>,
    /// WSGIAuthGroupScript.
    pub(crate) auth_group_script: Option<Arc<HookScript>>,
    /// WSGIDispatchScript.
    pub(crate) dispatch_script: Option<Arc<HookScript>>,
}

/// A script whose functions decide about requests. It runs in httpd's own processes.
#[derive(Debug)]
pub(crate) struct HookScript {
    /// The script; its functions have fixed names.
    pub(crate) script: Arc<Script>,
    /// `application-group=`.
    pub(crate) application_group: GroupRule,
}

/// Handler scripts by the name of the handler.
pub(crate) type HandlerTable = HashMap<Vec<u8>, Arc<HandlerScript>>;

/// A script that is registered as a handler.
#[derive(Debug)]
pub(crate) struct HandlerScript {
    /// The script and its callable.
    pub(crate) script: Arc<Script>,
    /// What overrides directives.
    pub(crate) options: Options,
}

/// The options of a script directive, each of which overrides a directive in scope.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// `process-group=`.
    pub(crate) process_group: Option<GroupRule>,
    /// `application-group=`.
    pub(crate) application_group: Option<GroupRule>,
    /// `callable-object=`, taken as it stands.
    pub(crate) callable: Option<Vec<u8>>,
    /// `pass-authorization=`.
    pub(crate) pass_authorization: Option<bool>,
}

/// WSGIScriptAlias: the part of the URL space that a script, or a directory of scripts, answers.
#[derive(Debug)]
pub(crate) struct ScriptAlias {
    /// What URL paths begin with.
    pub(crate) prefix: Vec<u8>,
    /// What takes its place to make a file name.
    pub(crate) target: Vec<u8>,
    /// What overrides directives.
    pub(crate) options: Options,
}

/// How the callable of a script file is found for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallableRule {
    /// This name.
    Fixed(Vec<u8>),
    /// `%{ENV:name}`: the value of a note or variable.
    Environment(Vec<u8>),
}

impl CallableRule {
    /// What WSGICallableObject means.
    pub(crate) fn parse(value: &[u8]) -> Self {
        match environment_form(value) {
            Some(name) => Self::Environment(name.to_vec()),
            // Another form is none: it falls back to the default, as a name it could never be.
            None if value.starts_with(b"%") => Self::Fixed(DEFAULT_CALLABLE.to_vec()),
            None => Self::Fixed(value.to_vec()),
        }
    }
}

/// The callable of a script file where nothing says otherwise.
pub(crate) const DEFAULT_CALLABLE: &[u8] = b"application";

/// The name in `%{ENV:name}`.
fn environment_form(value: &[u8]) -> Option<&[u8]> {
    let name = value.strip_prefix(b"%{ENV:")?.strip_suffix(b"}")?;
    (!name.is_empty()).then_some(name)
}

/// How the name of a group is found for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupRule {
    /// This name, whatever the request. `%{GLOBAL}` is the empty one.
    Fixed(GroupName),
    /// `%{SERVER}`: ServerName and port.
    Server,
    /// `%{HOST}`: the host the client asked for, and port.
    Host,
    /// `%{RESOURCE}`: as `%{SERVER}`, and SCRIPT_NAME.
    Resource,
    /// `%{ENV:name}`: the value of a note or variable.
    Environment(Vec<u8>),
}

impl Default for GroupRule {
    /// `%{GLOBAL}`.
    fn default() -> Self {
        Self::Fixed(GroupName::default())
    }
}

impl GroupRule {
    /// What an option of a hook script means: for those, `%{RESOURCE}` and `%{ENV:name}` are no
    /// forms but names.
    pub(crate) fn parse_for_hook(value: &[u8]) -> Self {
        match Self::parse(value) {
            Self::Resource | Self::Environment(_) => Self::Fixed(GroupName::new(value)),
            rule => rule,
        }
    }

    /// What a directive or option means. A form is recognised as a whole value only; anything else
    /// is a name.
    pub(crate) fn parse(value: &[u8]) -> Self {
        match value {
            b"%{GLOBAL}" => Self::Fixed(GroupName::default()),
            b"%{SERVER}" => Self::Server,
            b"%{HOST}" => Self::Host,
            b"%{RESOURCE}" => Self::Resource,
            _ => match environment_form(value) {
                Some(name) => Self::Environment(name.to_vec()),
                None => Self::Fixed(GroupName::new(value)),
            },
        }
    }
}

impl DirectoryConfig {
    /// What holds where both sections apply.
    pub(crate) fn merge(&self, more_specific: &Self) -> Self {
        Self {
            handlers: merge_tables(self.handlers.as_ref(), more_specific.handlers.as_ref()),
            process_group: more_specific
                .process_group
                .as_ref()
                .or(self.process_group.as_ref())
                .cloned(),
            application_group: more_specific
                .application_group
                .as_ref()
                .or(self.application_group.as_ref())
                .cloned(),
            callable: more_specific.callable.as_ref().or(self.callable.as_ref()).cloned(),
            pass_authorization: more_specific.pass_authorization.or(self.pass_authorization),
            script_reloading: more_specific.script_reloading.or(self.script_reloading),
            access_script: more_specific
                .access_script
                .as_ref()
                .or(self.access_script.as_ref())
                .cloned(),
            auth_user_script: more_specific
                .auth_user_script
                .as_ref()
                .or(self.auth_user_script.as_ref())
                .cloned(),
            auth_group_script: more_specific
                .auth_group_script
                .as_ref()
                .or(self.auth_group_script.as_ref())
                .cloned(),
            dispatch_script: more_specific
                .dispatch_script
                .as_ref()
                .or(self.dispatch_script.as_ref())
                .cloned(),
        }
    }

    /// Registers a handler script; a later one of the same name replaces it.
    pub(crate) fn add_handler(&mut self, name: Vec<u8>, handler: HandlerScript) {
        Arc::make_mut(self.handlers.get_or_insert_default()).insert(name, Arc::new(handler));
    }

    /// The script registered under a handler's name.
    pub(crate) fn handler(&self, name: &[u8]) -> Option<&HandlerScript> {
        self.handlers.as_ref()?.get(name).map(Arc::as_ref)
    }
}

/// Handler scripts merge by name, each entry as a whole.
fn merge_tables(
    base: Option<&Arc<HandlerTable>>,
    more_specific: Option<&Arc<HandlerTable>>,
) -> Option<Arc<HandlerTable>> {
    match (base, more_specific) {
        (Some(base), Some(more)) => {
            let both = base.iter().chain(more.iter());
            Some(Arc::new(
                both.map(|(name, handler)| (name.clone(), Arc::clone(handler))).collect(),
            ))
        }
        (one, other) => other.or(one).cloned(),
    }
}

/// What a server says about its URL space and, in the main server only, about processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerConfig {
    /// WSGIScriptAlias, in the order of the configuration, a virtual host's before the main server's.
    pub(crate) aliases: Vec<Arc<ScriptAlias>>,
    /// A hook script stands somewhere in this server or its sections, so its processes run Python.
    pub(crate) hook_scripts: bool,
    /// WSGIRestrictEmbedded.
    pub(crate) restrict_embedded: Option<bool>,
    /// WSGIPythonHome.
    pub(crate) python_home: Option<PathBuf>,
    /// WSGIPythonPath.
    pub(crate) python_path: Vec<PathBuf>,
    /// WSGIPerInterpreterGIL.
    pub(crate) own_gil: Option<OwnGil>,
    /// WSGIInterpreterThreads.
    pub(crate) interpreter_threads: Option<usize>,
    /// WSGIInterpreterLimit.
    pub(crate) interpreter_limit: Option<usize>,
}

impl ServerConfig {
    /// What holds in a virtual host.
    fn merge(main: &Self, host: &Self) -> Self {
        let aliases = host.aliases.iter().chain(&main.aliases).cloned().collect();
        Self { aliases, hook_scripts: host.hook_scripts, ..main.clone() }
    }
}

/// The values of WSGIPerInterpreterGIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnGil {
    /// Wherever this Python can.
    Auto,
    /// Always wanted.
    On,
    /// Never.
    Off,
}

/// The per-directory record of the section that a directive stands in.
///
/// # Safety
///
/// httpd passed `record` to a directive of this module, or as this module's per-directory record.
pub(crate) unsafe fn directory<'a>(record: *mut c_void) -> &'a mut DirectoryConfig {
    // SAFETY: the caller's promise; `create_directory` or `merge_directory` made it.
    unsafe { &mut *record.cast::<DirectoryConfig>() }
}

/// The record of a server.
///
/// # Safety
///
/// The server is live, and no other reference to its record is.
pub(crate) unsafe fn server<'a>(server: *mut server_rec) -> &'a mut ServerConfig {
    // SAFETY: the caller's promise.
    let vector = unsafe { (*server).module_config };
    // SAFETY: see above; `create_server` made the record.
    unsafe { &mut *wsgi_module.configuration(vector).cast::<ServerConfig>() }
}

pub(crate) unsafe extern "C" fn create_directory(
    pool: *mut apr_pool_t,
    _directory: *mut c_char,
) -> *mut c_void {
    boundary::record(|| keep(pool, DirectoryConfig::default()))
}

pub(crate) unsafe extern "C" fn merge_directory(
    pool: *mut apr_pool_t,
    base: *mut c_void,
    more_specific: *mut c_void,
) -> *mut c_void {
    boundary::record(|| {
        // SAFETY: httpd passes two of this module's per-directory records.
        let (base, more_specific) = unsafe { (&*directory(base), &*directory(more_specific)) };
        keep(pool, base.merge(more_specific))
    })
}

pub(crate) unsafe extern "C" fn create_server(
    pool: *mut apr_pool_t,
    _server: *mut server_rec,
) -> *mut c_void {
    boundary::record(|| keep(pool, ServerConfig::default()))
}

pub(crate) unsafe extern "C" fn merge_server(
    pool: *mut apr_pool_t,
    main: *mut c_void,
    host: *mut c_void,
) -> *mut c_void {
    boundary::record(|| {
        // SAFETY: httpd passes two of this module's server records.
        let main = unsafe { &*main.cast::<ServerConfig>() };
        // SAFETY: see above.
        let host = unsafe { &*host.cast::<ServerConfig>() };
        keep(pool, ServerConfig::merge(main, host))
    })
}

/// Puts a record on the heap, to be dropped when the pool is cleared.
fn keep<T>(pool: *mut apr_pool_t, record: T) -> *mut c_void {
    unsafe extern "C" fn release<T>(record: *mut c_void) -> c_int {
        // SAFETY: the pool calls this once, for the box that was leaked below.
        boundary::quiet(|| drop(unsafe { Box::from_raw(record.cast::<T>()) }));
        0
    }
    let record = Box::into_raw(Box::new(record)).cast();
    // SAFETY: httpd passes a live pool; a forked program that clears it need not drop the record.
    unsafe {
        apr_pool_cleanup_register(pool, record, Some(release::<T>), Some(apr_pool_cleanup_null))
    };
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &[u8], path: &[u8], authorization: Option<bool>) -> DirectoryConfig {
        let mut config =
            DirectoryConfig { pass_authorization: authorization, ..Default::default() };
        let handler = HandlerScript {
            script: Arc::new(Script::new(path, b"handle_request").unwrap()),
            options: Options::default(),
        };
        config.add_handler(name.to_vec(), handler);
        config
    }

    fn path(config: &DirectoryConfig, name: &[u8]) -> Option<String> {
        config.handler(name).map(|handler| handler.script.path().display().to_string())
    }

    #[test]
    fn a_more_specific_section_replaces_a_handler_as_a_whole_and_keeps_the_others() {
        let base = section(b"a", b"/base/a", Some(true)).merge(&section(b"b", b"/base/b", None));
        let merged = base.merge(&section(b"a", b"/more/a", None));
        assert_eq!(path(&merged, b"a").as_deref(), Some("/more/a"));
        assert_eq!(path(&merged, b"b").as_deref(), Some("/base/b"));
        assert_eq!(path(&base, b"a").as_deref(), Some("/base/a"));
        assert_eq!(merged.pass_authorization, Some(true));
    }

    #[test]
    fn merging_is_associative_and_an_empty_section_changes_nothing() {
        let sections = [
            section(b"a", b"/1", None),
            section(b"b", b"/2", Some(false)),
            section(b"a", b"/3", Some(true)),
        ];
        let left = sections[0].merge(&sections[1]).merge(&sections[2]);
        let right = sections[0].merge(&sections[1].merge(&sections[2]));
        for name in [b"a", b"b"] {
            assert_eq!(path(&left, name), path(&right, name));
        }
        assert_eq!(left.pass_authorization, right.pass_authorization);
        let same = left.merge(&DirectoryConfig::default());
        assert_eq!(path(&same, b"a"), path(&left, b"a"));
    }

    #[test]
    fn a_form_is_one_only_as_the_whole_value() {
        let fixed = |name: &[u8]| GroupRule::Fixed(GroupName::new(name));
        assert_eq!(GroupRule::parse(b"%{GLOBAL}"), fixed(b""));
        assert_eq!(GroupRule::parse(b"%{SERVER}"), GroupRule::Server);
        assert_eq!(GroupRule::parse(b"%{server}"), fixed(b"%{server}"));
        assert_eq!(GroupRule::parse(b"my%{SERVER}"), fixed(b"my%{SERVER}"));
        assert_eq!(GroupRule::parse(b"%{ENV:G}"), GroupRule::Environment(b"G".to_vec()));
        assert_eq!(GroupRule::parse(b"%{ENV:}"), fixed(b"%{ENV:}"));
        assert_eq!(GroupRule::parse_for_hook(b"%{GLOBAL}"), GroupRule::default());
        assert_eq!(GroupRule::parse_for_hook(b"%{HOST}"), GroupRule::Host);
        assert_eq!(GroupRule::parse_for_hook(b"%{ENV:G}"), fixed(b"%{ENV:G}"));
        assert_eq!(GroupRule::parse_for_hook(b"%{RESOURCE}"), fixed(b"%{RESOURCE}"));
    }
}
