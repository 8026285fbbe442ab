//! `libnull_handler.so`: the handler `null-handler`, which answers every request with 13 bytes from memory.
//!
//! It is what httpd costs without Python: no module that runs an application can be faster. scripts/bench
//! puts it beside them.

use httpd_sys::{
    APR_HOOK_MIDDLE, DECLINED, ModuleRecord, OK, ap_hook_handler, ap_pass_brigade,
    ap_set_content_length, ap_set_content_type, append_bucket, apr_brigade_create,
    apr_bucket_eos_create, apr_bucket_immortal_create, apr_pool_t, module, request_rec,
};
use std::ffi::{CStr, c_int};

const BODY: &[u8] = b"Hello, World!";

/// The record by which httpd finds this module.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "LoadModule looks the record up by this name")]
pub static null_module: ModuleRecord = ModuleRecord::new(
    c"null_handler.rs",
    module { register_hooks: Some(register_hooks), ..ModuleRecord::empty() },
);

unsafe extern "C" fn register_hooks(_pool: *mut apr_pool_t) {
    let no_order = std::ptr::null();
    // SAFETY: httpd calls this while it loads modules, and unloads this one only after its hooks are gone.
    unsafe { ap_hook_handler(Some(handle), no_order, no_order, APR_HOOK_MIDDLE as c_int) };
}

/// Nothing here can panic, so nothing stops panics.
unsafe extern "C" fn handle(r: *mut request_rec) -> c_int {
    // SAFETY: httpd passes a request that is alive during the call, with a handler's name or null.
    let (name, connection) = unsafe { ((*r).handler, (*r).connection) };
    // SAFETY: httpd's names end with a NUL.
    if name.is_null() || unsafe { CStr::from_ptr(name) } != c"null-handler" {
        return DECLINED;
    }
    // SAFETY: the type is a literal, which lives longer than the request.
    unsafe { ap_set_content_type(r, c"text/plain".as_ptr()) };
    // SAFETY: the request is alive.
    unsafe { ap_set_content_length(r, BODY.len() as i64) };
    // SAFETY: a request's connection is alive as long as the request is.
    let allocator = unsafe { (*connection).bucket_alloc };
    // SAFETY: pool and allocator are the request's.
    let brigade = unsafe { apr_brigade_create((*r).pool, allocator) };
    // SAFETY: the bytes are immutable and never go away, which is what such a bucket asks for.
    let body = unsafe { apr_bucket_immortal_create(BODY.as_ptr().cast(), BODY.len(), allocator) };
    // SAFETY: a fresh bucket of the brigade's allocator.
    unsafe { append_bucket(brigade, body) };
    // SAFETY: see above.
    unsafe { append_bucket(brigade, apr_bucket_eos_create(allocator)) };
    // SAFETY: the filters are the request's. Where they fail the client has left, and httpd knows.
    unsafe { ap_pass_brigade((*r).output_filters, brigade) };
    OK as c_int
}
