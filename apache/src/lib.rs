//! `libmod_manifold.so`: the module that httpd loads.
//!
//! It takes the place of mod_wsgi: the module record is `wsgi_module`, its source name
//! `mod_wsgi.c` (so that `<IfModule>` matches in both spellings), and directives keep their names.
//! The two are never loaded together; httpd skips the second record of a name.
//!
//! Everything here runs on httpd's threads and calls httpd; nothing calls Python. What needs
//! Python is handed to the `manifold` library as an owned job.
//!
//! - `directives`, `config`, `rules`: what the configuration says, and how sections merge.
//! - `daemons`: worker processes of process groups; `process_groups`: who may use which.
//! - `child`: a child process from its first to its last moment.
//! - `mapping`, `target`, `pattern`: which script answers a request; `naming`: in which group.
//! - `process_groups`: the groups of daemon processes that the configuration defines.
//! - `preload`: what is loaded before the first.
//! - `handler`, `variables`, `body`, `response`, `files`: one request.
//! - `proxies`: what a proxy in front says about it.
//! - `mapping`, `target`: which script answers a request.
//! - `handler`, `variables`, `body`, `response`, `nesting`: one request.
//! - `hooks`: scripts that decide about access, users, groups, and where a request is served.
//! - `status`: what is counted, for people and programs.
//! - `boundary`, `log`, `request`: where C calls us, what we tell the operator, what httpd's
//!   request record says.

mod aside;
mod body;
mod boundary;
mod child;
mod config;
mod daemons;
mod directives;
mod files;
mod handler;
mod hooks;
mod log;
mod mapping;
mod naming;
mod nesting;
mod pattern;
mod preload;
mod process_groups;
mod proxies;
mod request;
mod response;
mod rules;
mod selectors;
mod signals;
mod status;
mod target;
mod variables;

use httpd_sys::{
    AP_SQ_MAIN_STATE, AP_SQ_MS_CREATE_PRE_CONFIG, APR_HOOK_MIDDLE, APR_HOOK_REALLY_LAST,
    ModuleNames, ModuleRecord, ap_add_version_component, ap_hook_child_init,
    ap_hook_child_stopping, ap_hook_handler, ap_hook_monitor, ap_hook_post_config,
    ap_hook_translate_name, ap_state_query, apr_pool_t, module, server_rec,
};
use std::collections::HashSet;
use std::ffi::{CString, c_int};

/// The record by which httpd finds this module.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "LoadModule looks the record up by this name")]
pub static wsgi_module: ModuleRecord = ModuleRecord::new(
    c"mod_wsgi.c",
    module {
        create_dir_config: Some(config::create_directory),
        merge_dir_config: Some(config::merge_directory),
        create_server_config: Some(config::create_server),
        merge_server_config: Some(config::merge_server),
        cmds: directives::TABLE.as_ptr(),
        register_hooks: Some(register_hooks),
        ..ModuleRecord::empty()
    },
);

unsafe extern "C" fn register_hooks(pool: *mut apr_pool_t) {
    let (no_order, middle) = (std::ptr::null(), APR_HOOK_MIDDLE as c_int);
    // SAFETY: httpd calls this while it loads modules; the functions stay mapped.
    unsafe { ap_hook_post_config(Some(announce), no_order, no_order, middle) };
    let last = APR_HOOK_REALLY_LAST as c_int;
    // SAFETY: see above.
    unsafe { ap_hook_post_config(Some(start_daemons), no_order, no_order, last) };
    // SAFETY: see above.
    unsafe { ap_hook_child_init(Some(child::init), no_order, no_order, middle) };
    // SAFETY: see above.
    unsafe { ap_hook_child_stopping(Some(child::stopping), no_order, no_order, middle) };
    // SAFETY: see above.
    unsafe { ap_hook_monitor(Some(daemons::parent::look_after), no_order, no_order, middle) };
    static BEFORE_US: ModuleNames<2> =
        ModuleNames::new([c"mod_alias.c".as_ptr(), std::ptr::null()]);
    static AFTER_US: ModuleNames<3> = ModuleNames::new([
        c"mod_userdir.c".as_ptr(),
        c"mod_vhost_alias.c".as_ptr(),
        std::ptr::null(),
    ]);
    // SAFETY: see above; the lists end with a null.
    unsafe {
        ap_hook_translate_name(
            Some(mapping::translate),
            BEFORE_US.as_ptr(),
            AFTER_US.as_ptr(),
            middle,
        );
    }
    // SAFETY: see above.
    unsafe { ap_hook_handler(Some(handler::handle), no_order, no_order, middle) };
    // SAFETY: see above.
    unsafe { ap_hook_handler(Some(status::handle), no_order, no_order, middle) };
    hooks::register(pool);
    status::register();
}

/// Adds module and Python to the server's banner, and the mod_wsgi whose place it takes: programs look
/// for that. And says what became of directives.
unsafe extern "C" fn announce(
    pool: *mut apr_pool_t,
    _log: *mut apr_pool_t,
    _temporary: *mut apr_pool_t,
    server: *mut server_rec,
) -> c_int {
    boundary::quiet(|| write_notes(server));
    let python = manifold::PYTHON_VERSION;
    let (major, minor, patch) = manifold::COMPATIBLE_VERSION;
    let banner = format!(
        "mod_manifold/{} mod_wsgi/{major}.{minor}.{patch} Python/{python}",
        env!("CARGO_PKG_VERSION")
    );
    let banner = CString::new(banner).expect("versions hold no NUL");
    // SAFETY: httpd calls this hook with a live pool, and copies the text.
    unsafe { ap_add_version_component(pool, banner.as_ptr()) };
    0
}

/// Starts the processes of process groups, after all that might refuse the configuration.
unsafe extern "C" fn start_daemons(
    pool: *mut apr_pool_t,
    _log: *mut apr_pool_t,
    _temporary: *mut apr_pool_t,
    server: *mut server_rec,
) -> c_int {
    if is_first_reading() {
        return 0;
    }
    // SAFETY: httpd passes the main server, and nothing else looks at its record meanwhile.
    boundary::quiet(|| status::memory::prepare(unsafe { config::server(server) }));
    daemons::parent::begin(pool, server)
}

/// Whether httpd reads its configuration only to read it once more: when it starts it does it twice.
fn is_first_reading() -> bool {
    // SAFETY: it takes a number and returns one.
    unsafe { ap_state_query(AP_SQ_MAIN_STATE as c_int) == AP_SQ_MS_CREATE_PRE_CONFIG as c_int }
}

/// What is to be said of directives, in all servers; once, though httpd reads its configuration
/// twice when it starts.
fn write_notes(main: *mut server_rec) {
    if is_first_reading() {
        return;
    }
    let mut said = HashSet::new();
    let mut server = main;
    while !server.is_null() {
        // SAFETY: httpd passes its list of servers, and nothing else looks at the record meanwhile.
        let config = unsafe { config::server(server) };
        for (level, text) in config.notes.iter().filter(|(_, text)| said.insert(text.as_str())) {
            log::server(*level, text);
        }
        // SAFETY: see above.
        server = unsafe { (*server).next };
    }
}
