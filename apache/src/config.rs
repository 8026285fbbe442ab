//! What the configuration says, as it was written, and how more specific sections override less
//! specific ones.
//!
//! Directives about requests live in the per-directory record. httpd gives each server one as the
//! base of all its sections, so server config, virtual host, section and .htaccess are one chain
//! and one merge. Directives about processes live in the record of the main server.

use crate::pattern::Pattern;
use crate::process_groups::DaemonConfig;
use crate::rules::Rules;
use crate::selectors::{CallableRule, GroupRule};
use crate::{boundary, wsgi_module};
use httpd_sys::{apr_pool_cleanup_null, apr_pool_cleanup_register, apr_pool_t, server_rec};
use manifold::{
    GroupName, InterpreterOptions, Level, OptionsBlock, OptionsTable, OwnGil, PythonSettings,
    Reload, Script,
};
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a directory-like section says. `None` leaves it to the less specific ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub(crate) script_reloading: Option<Reload>,
    /// How requests are treated.
    pub(crate) rules: Rules,
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
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HookScript {
    /// The script; its functions have fixed names.
    pub(crate) script: Arc<Script>,
    /// `application-group=`.
    pub(crate) application_group: GroupRule,
}

/// Handler scripts by the name of the handler.
pub(crate) type HandlerTable = HashMap<Vec<u8>, Arc<HandlerScript>>;

/// A script that is registered as a handler.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandlerScript {
    /// The script and its callable.
    pub(crate) script: Arc<Script>,
    /// What overrides directives.
    pub(crate) options: Options,
}

/// The options of a script directive, each of which overrides a directive in scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// WSGIScriptAlias and WSGIScriptAliasMatch: the part of the URL space that a script, or a directory
/// of scripts, answers.
#[derive(Debug)]
pub(crate) struct ScriptAlias {
    /// Which URL paths these are.
    pub(crate) from: AliasedPaths,
    /// What takes the place of that part of the path to make a file name.
    pub(crate) target: CString,
    /// What overrides directives.
    pub(crate) options: Options,
}

/// What an alias matches.
#[derive(Debug)]
pub(crate) enum AliasedPaths {
    /// What begins with this.
    Prefix(Vec<u8>),
    /// What matches this; the target refers to its groups.
    Pattern(Pattern),
}

/// A script that is loaded when a process starts.
#[derive(Debug)]
pub(crate) struct Preload {
    /// The processes that load it; the empty one is httpd's own.
    pub(crate) process_group: GroupName,
    /// Where it is.
    pub(crate) script: Arc<Script>,
    /// It is what an alias stands for: a path outside of the root directory that its processes may have.
    pub(crate) of_alias: bool,
    /// The interpreter that loads it.
    pub(crate) application_group: GroupRule,
}

impl DirectoryConfig {
    /// What holds where both sections apply.
    pub(crate) fn merge(&self, more_specific: &Self) -> Self {
        Self {
            handlers: merge_tables(self.handlers.as_ref(), more_specific.handlers.as_ref()),
            process_group: closer(&self.process_group, &more_specific.process_group),
            application_group: closer(&self.application_group, &more_specific.application_group),
            callable: closer(&self.callable, &more_specific.callable),
            pass_authorization: more_specific.pass_authorization.or(self.pass_authorization),
            script_reloading: more_specific.script_reloading.or(self.script_reloading),
            rules: self.rules.merge(&more_specific.rules),
            access_script: closer(&self.access_script, &more_specific.access_script),
            auth_user_script: closer(&self.auth_user_script, &more_specific.auth_user_script),
            auth_group_script: closer(&self.auth_group_script, &more_specific.auth_group_script),
            dispatch_script: closer(&self.dispatch_script, &more_specific.dispatch_script),
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

/// What the more specific section says, or else the less specific one.
fn closer<T: Clone>(base: &Option<T>, more_specific: &Option<T>) -> Option<T> {
    more_specific.as_ref().or(base.as_ref()).cloned()
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
    /// WSGIScriptAlias and WSGIScriptAliasMatch, in the order of the configuration, a virtual host's
    /// before the main server's.
    pub(crate) aliases: Vec<Arc<ScriptAlias>>,
    /// What is loaded when a process starts; of this server only.
    pub(crate) preloads: Vec<Arc<Preload>>,
    /// WSGICaseSensitivity.
    pub(crate) case_sensitivity: Option<bool>,
    /// A hook script stands somewhere in this server or its sections, or a script is imported here, so
    /// processes run Python even with WSGIRestrictEmbedded.
    pub(crate) needs_python: bool,
    /// WSGIRestrictEmbedded.
    pub(crate) restrict_embedded: Option<bool>,
    /// WSGIPythonHome.
    pub(crate) python_home: Option<PathBuf>,
    /// The Python of processes, and what its interpreters are to be like.
    pub(crate) python: PythonConfig,
    /// WSGIDaemonProcess, of all servers, in the order of the configuration.
    pub(crate) daemons: Vec<Arc<DaemonConfig>>,
    /// WSGIDaemonWorker.
    pub(crate) daemon_worker: Option<PathBuf>,
    /// WSGIInterpreterThreads.
    pub(crate) interpreter_threads: Option<usize>,
    /// WSGIInterpreterLimit.
    pub(crate) interpreter_limit: Option<usize>,
    /// WSGIResponseBufferLimit.
    pub(crate) response_buffer: Option<u64>,
    /// What is to be said of directives in this server, once it starts.
    pub(crate) notes: Vec<(Level, String)>,
}

/// What the main server says about the Python of processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct PythonConfig {
    /// WSGIPythonOptimize, WSGIPythonWarnings, WSGIPythonHashSeed and WSGIDontWriteBytecode.
    pub(crate) start: PythonSettings,
    /// WSGIPythonEggs.
    pub(crate) eggs: Option<PathBuf>,
    /// What holds for all interpreters.
    pub(crate) options: SpokenOptions,
    /// `<WSGIInterpreterOptions>`, in the order of the configuration.
    pub(crate) blocks: Vec<ScopedOptions>,
    /// WSGIDestroyInterpreter.
    pub(crate) destroy_interpreter: Option<bool>,
    /// WSGISlowRequests.
    pub(crate) slow_requests: Option<Duration>,
    /// The shortest time that a WSGIRequestTimeout of any section gives.
    pub(crate) request_timeout: Option<Duration>,
    /// WSGIServerMetrics.
    pub(crate) server_metrics: Option<bool>,
    /// WSGISocketPrefix.
    pub(crate) socket_prefix: Option<PathBuf>,
    /// WSGISocketRotation.
    pub(crate) socket_rotation: Option<bool>,
    /// WSGIAcceptMutex.
    #[allow(dead_code, reason = "for daemon processes")]
    pub(crate) accept_mutex: Option<&'static str>,
}

/// What a place of the configuration says about interpreters.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpokenOptions {
    /// WSGIPerInterpreterGIL.
    pub(crate) own_gil: Option<OwnGil>,
    /// WSGIReplicas.
    pub(crate) replicas: Option<NonZeroUsize>,
    /// WSGIInterpreterMaximumRequests.
    pub(crate) maximum_requests: Option<NonZeroU64>,
    /// WSGIFreeThreading.
    pub(crate) free_threading: Option<bool>,
    /// WSGISwitchInterval.
    pub(crate) switch_interval: Option<f64>,
    /// WSGIPythonPath.
    pub(crate) python_path: Vec<PathBuf>,
    /// WSGIQueueLimit.
    pub(crate) queue_limit: Option<usize>,
    /// WSGIRestrictStdin.
    pub(crate) restrict_stdin: Option<bool>,
    /// WSGIRestrictStdout.
    pub(crate) restrict_stdout: Option<bool>,
    /// WSGIRestrictSignal.
    pub(crate) restrict_signal: Option<bool>,
}

/// `<WSGIInterpreterOptions>`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScopedOptions {
    /// `process-group=`.
    pub(crate) process_group: Option<GroupName>,
    /// `application-group=`.
    pub(crate) application_group: Option<GroupName>,
    /// What it says.
    pub(crate) options: SpokenOptions,
}

impl PythonConfig {
    /// What is said about interpreters, as the library wants it.
    pub(crate) fn table(&self) -> OptionsTable {
        let block = |block: &ScopedOptions| OptionsBlock {
            process_group: block.process_group.clone(),
            application_group: block.application_group.clone(),
            options: block.options.resolved(),
        };
        OptionsTable {
            base: self.options.resolved(),
            blocks: self.blocks.iter().map(block).collect(),
        }
    }

    /// Whether a GIL for each interpreter is wanted somewhere, if only by not saying otherwise.
    pub(crate) fn wants_own_gil(&self) -> bool {
        let blocks = self.blocks.iter().map(|block| block.options.own_gil);
        self.options.own_gil != Some(OwnGil::Off) || blocks.flatten().any(|gil| gil != OwnGil::Off)
    }
}

impl SpokenOptions {
    fn resolved(&self) -> InterpreterOptions {
        InterpreterOptions {
            gil: self.own_gil,
            replicas: self.replicas,
            maximum_requests: self.maximum_requests,
            switch_interval: self.switch_interval,
            queue_limit: self.queue_limit,
            python_path: self.python_path.clone(),
            restrict_stdin: self.restrict_stdin,
            restrict_stdout: self.restrict_stdout,
            restrict_signal: self.restrict_signal,
        }
    }
}

impl ServerConfig {
    /// What holds in a virtual host.
    fn merge(main: &Self, host: &Self) -> Self {
        let aliases = host.aliases.iter().chain(&main.aliases).cloned().collect();
        Self {
            aliases,
            preloads: host.preloads.clone(),
            needs_python: host.needs_python,
            notes: host.notes.clone(),
            ..main.clone()
        }
    }
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
    use crate::selectors::tests::value;
    use proptest::option;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = GroupRule> {
        value().prop_map(|value| GroupRule::parse(&value))
    }

    fn options() -> impl Strategy<Value = Options> {
        let values =
            (option::of(rule()), option::of(rule()), option::of(value()), any::<Option<bool>>());
        values.prop_map(|(process_group, application_group, callable, pass_authorization)| {
            Options { process_group, application_group, callable, pass_authorization }
        })
    }

    fn handler() -> impl Strategy<Value = HandlerScript> {
        ("/[a-c]", options()).prop_map(|(path, options)| HandlerScript {
            script: Arc::new(Script::new(path.as_bytes(), b"handle_request").unwrap()),
            options,
        })
    }

    /// A section, with few names for handlers so that sections often share one.
    fn section() -> impl Strategy<Value = DirectoryConfig> {
        let handlers = prop::collection::vec(("[a-c]", handler()), 0..4);
        let callable = option::of(value().prop_map(|value| CallableRule::parse(&value)));
        let flags = any::<[Option<bool>; 4]>();
        (handlers, option::of(rule()), option::of(rule()), callable, flags).prop_map(
            |(handlers, process_group, application_group, callable, flags)| {
                let mut section = DirectoryConfig {
                    handlers: None,
                    process_group,
                    application_group,
                    callable,
                    pass_authorization: flags[0],
                    script_reloading: flags[1]
                        .map(|on| if on { Reload::Module } else { Reload::Never }),
                    rules: Rules {
                        chunked_request: flags[2],
                        error_override: flags[3],
                        ..Rules::default()
                    },
                    ..DirectoryConfig::default()
                };
                for (name, handler) in handlers {
                    section.add_handler(name.into_bytes(), handler);
                }
                section
            },
        )
    }

    proptest! {
        #[test]
        fn merging_is_associative(a in section(), b in section(), c in section()) {
            prop_assert_eq!(a.merge(&b).merge(&c), a.merge(&b.merge(&c)));
        }

        #[test]
        fn an_empty_section_changes_nothing(a in section()) {
            let empty = DirectoryConfig::default();
            prop_assert_eq!(&a.merge(&empty), &a);
            prop_assert_eq!(&empty.merge(&a), &a);
        }

        #[test]
        fn what_the_more_specific_section_says_holds(a in section(), b in section()) {
            let both = a.merge(&b);
            prop_assert_eq!(both.process_group, b.process_group.or(a.process_group.clone()));
            prop_assert_eq!(both.application_group, b.application_group.or(a.application_group.clone()));
            prop_assert_eq!(both.callable, b.callable.or(a.callable.clone()));
            prop_assert_eq!(both.pass_authorization, b.pass_authorization.or(a.pass_authorization));
            prop_assert_eq!(both.script_reloading, b.script_reloading.or(a.script_reloading));
        }

        #[test]
        fn a_handler_is_replaced_as_a_whole_and_the_others_stay(a in section(), b in section()) {
            let (before, both) = (a.clone(), a.merge(&b));
            for name in [b"a", b"b", b"c"] {
                prop_assert_eq!(both.handler(name), b.handler(name).or(a.handler(name)));
            }
            prop_assert_eq!(a, before, "merging changes no section");
        }
    }
}
