//! Generates declarations for what this project calls, from the headers of the httpd it is built
//! for. Every flag is asked from that httpd's own tools: `apxs`, and through it `apr-1-config` and
//! `apu-1-config`. `MANIFOLD_APXS` chooses the `apxs`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Functions, types, variables and macros that are bound; the whole tree takes over a minute.
const FUNCTIONS: &str = "ap_hook_(handler|translate_name|child_init|child_stopping|post_config|monitor)|ap_find_path_info|ap_check_cmd_context|ap_send_interim_response|ap_allow_options|ap_get_limit_req_body\
    |ap_log_(error|rerror)_|ap_get_(server|request)_module_loglevel|ap_mpm_query|ap_state_query\
    |ap_add_(common|cgi)_vars|ap_add_version_component|ap_get_brigade|ap_pass_brigade\
    |ap_bucket_error_create|ap_set_(content_type|content_length|last_modified|etag)|ap_run_http_scheme\
    |ap_get_server_(name|port|banner|version)|ap_exists_config_define|ap_getword_conf|ap_no2slash\
    |ap_get_request_id|ap_server_root_relative|ap_rvputs|ap_map_http_request_error|ap_get_remote_host\
    |apr_brigade_(create|cleanup|destroy|length)|apr_bucket_(heap|immortal|transient|pool|eos|flush)_create\
    |apr_table_(get|set|setn|add|addn|mergen|unset|elts|make)|apr_p(alloc|strdup|strmemdup|calloc)(_debug)?\
    |apr_pool_(cleanup_register|cleanup_kill|cleanup_run|pre_cleanup_register)|apr_pool_cleanup_null\
    |apr_dynamic_fn_retrieve|apr_strerror|ap_die|ap_get_useragent_host|ap_auth_name\
    |apr_bucket_(alloc|free|heap_make|simple_copy|simple_split|setaside_noop|file_enable_mmap)\
    |ap_(pregcomp|regexec|pregsub)|apr_brigade_insert_file|apr_file_open|apr_os_(file_put|sock_get)|ap_get_conn_socket|ap_index_of_response\
    |apr_bucket_shared_split|ap_run_handler|ap_(discard_request_body|internal_redirect)|ap_is_initial_req|ap_get_server_(revision|description|built)|ap_show_mpm\
    |apr_proc_other_child_(register|unregister)|apr_os_file_get|ap_runtime_dir_relative|ap_hook_check_access|ap_register_auth_provider|apr_table_copy\
    |ap_rwrite|apr_optional_hook_add";
const TYPES: &str = "ap_directive_t|module|module_struct|command_rec|cmd_parms|request_rec|server_rec|conn_rec\
    |process_rec|apr_pool_t|apr_table_(t|entry_t)|apr_array_header_t|apr_bucket|apr_bucket_brigade\
    |apr_bucket_type_t|apr_status_t|ap_filter_t|ap_logconf|apr_read_type_e|ap_input_mode_t|cmd_how|ap_version_t|apr_filetype_e\
    |apr_proc_t|authn_provider|authz_provider|authn_status|authz_status";
const VARIABLES: &str = "ap_server_conf|ap_unixd_config|ap_my_pid|apr_bucket_type_(eos|flush|error|eor)\
    |ap_bucket_type_error|MODULE_MAGIC_(COOKIE|NUMBER_MAJOR|NUMBER_MINOR)|APLOG_.*|HTTP_.*|OK|DECLINED\
    |DONE|RSRC_CONF|ACCESS_CONF|OR_.*|OPT_.*|EXEC_ON_READ|AP_MPMQ_.*|APR_HAS_.*_SERIALIZE|APR_HOOK_.*|AP_REQ_.*|AP_SQ_.*|APR_OC_REASON_.*\
    |APR_SUCCESS|APR_EOF|APR_EGENERAL|APR_ENOMEM|APR_FOPEN_.*|APR_OS_START_.*|AP_SERVER_(MAJOR|MINOR|PATCHLEVEL)VERSION_NUMBER\
    |REQUEST_.*|M_GET|AP_FILTER_ERROR|NOT_IN_.*|GLOBAL_ONLY|APR_(NON)?BLOCK_READ|AP_CONN_.*|AP_REG_EXTENDED|AP_DEBUG.*\
    |AUTH[NZ]_PROVIDER_.*|AP_AUTH_INTERNAL_.*|REMOTE_NAME|AP_STATUS_SHORT|APR_FINFO_MTIME";

fn main() {
    println!("cargo:rerun-if-changed=wrapper.h");
    println!("cargo:rerun-if-env-changed=MANIFOLD_APXS");
    let apxs = find_apxs();
    let includes = apxs_query(&apxs, "INCLUDEDIR");
    let mut flags = vec![format!("-I{includes}")];
    flags.extend(words(&apxs_query(&apxs, "EXTRA_CPPFLAGS")));
    for (variable, default) in [("APR_CONFIG", "apr-1-config"), ("APU_CONFIG", "apu-1-config")] {
        let tool = match apxs_query(&apxs, variable) {
            path if path.is_empty() => default.to_owned(),
            path => path,
        };
        flags.extend(words(&run(&tool, &["--includes"])));
    }
    flags.extend(words(&run("apr-1-config", &["--cppflags"])));

    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(VARIABLES)
        .prepend_enum_name(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .derive_debug(false)
        .generate_comments(false)
        .generate_cstr(true)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .unwrap_or_else(|error| {
            panic!(
                "httpd's headers in {includes} could not be read: {error}. Wanted: httpd's and \
                 APR's development headers and libclang (scripts/setup installs them)."
            )
        });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings.write_to_file(out.join("httpd.rs")).expect("OUT_DIR is writable");
}

/// `MANIFOLD_APXS`, else `apxs` or `apxs2` on PATH or where distributions put it.
fn find_apxs() -> PathBuf {
    if let Some(path) = env::var_os("MANIFOLD_APXS") {
        return path.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/apache2/bin"].map(PathBuf::from))
        .flat_map(|dir| ["apxs", "apxs2"].map(|name| dir.join(name)))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!(
                "apxs was not found on PATH. It comes with httpd's development package \
                 (apache2-dev, httpd-devel); scripts/setup installs it, MANIFOLD_APXS names it."
            )
        })
}

/// A variable of the httpd installation; empty where that apxs does not know it.
fn apxs_query(apxs: &Path, variable: &str) -> String {
    let output = Command::new(apxs).args(["-q", variable]).output().unwrap_or_else(|error| {
        panic!("{} could not be run: {error}. MANIFOLD_APXS names the apxs to ask.", apxs.display())
    });
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap_or_else(|error| {
        panic!("{tool} could not be run: {error}. It comes with APR's development package.")
    });
    assert!(output.status.success(), "{tool} {arguments:?} failed: {}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
