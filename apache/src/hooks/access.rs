//! WSGIAccessScript: who may come in, by where they come from.

use super::{Failed, ask, refuse_result};
use crate::config::DirectoryConfig;
use crate::request::Request;
use crate::{boundary, log};
use httpd_sys::*;
use manifold::{Call, Code, Level, Value};
use std::ffi::c_int;

/// Registers the access checker.
pub(super) fn register() {
    let (no_order, middle) = (std::ptr::null(), APR_HOOK_MIDDLE as c_int);
    let type_ = AP_AUTH_INTERNAL_PER_CONF as c_int;
    // SAFETY: httpd calls this while it loads modules; the function stays mapped.
    unsafe { ap_hook_check_access(Some(check), no_order, no_order, middle, type_) };
}

unsafe extern "C" fn check(raw: *mut request_rec) -> c_int {
    boundary::decision(HTTP_FORBIDDEN as c_int, || {
        // SAFETY: httpd calls the hook with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        // SAFETY: the record is of this type, and nobody changes it once requests are served.
        let config = unsafe { &*r.configuration().cast::<DirectoryConfig>() };
        let Some(hook) = &config.access_script else { return DECLINED };

        // SAFETY: httpd keeps the request alive for the hook.
        let host =
            unsafe { ap_get_useragent_host(raw, REMOTE_NAME as c_int, std::ptr::null_mut()) };
        let call = Call {
            function: c"allow_access",
            arguments: vec![r.text(host).to_vec()],
            ..Call::default()
        };
        match ask(r, config, hook, call) {
            Ok(Value::Bool(true)) => OK as c_int,
            Ok(Value::None) => DECLINED,
            Ok(Value::Bool(false)) => {
                let path = hook.script.path().display();
                let text = format!("the client is refused by access script '{path}'");
                log::request(r, Level::Error, &text);
                HTTP_FORBIDDEN as c_int
            }
            Ok(other) => {
                refuse_result(r, hook, "allow_access", &other, "True, False or None");
                HTTP_FORBIDDEN as c_int
            }
            // The configuration is wrong, not the client.
            Err(Failed(Code::EmbeddedRestricted)) => HTTP_INTERNAL_SERVER_ERROR as c_int,
            Err(_) => HTTP_FORBIDDEN as c_int,
        }
    })
}
