//! WSGIAuthGroupScript: who belongs to which group, for `Require wsgi-group`.

use super::{ask, refuse_missing, refuse_result};
use crate::boundary;
use crate::config::DirectoryConfig;
use crate::directives::words;
use crate::request::Request;
use httpd_sys::*;
use manifold::{Call, Value};
use std::ffi::{CStr, c_char, c_int, c_void};

static PROVIDER: authz_provider = authz_provider {
    check_authorization: Some(check_authorization),
    parse_require_line: Some(parse_require_line),
};

/// Registers the provider `wsgi-group`.
pub(super) fn register(pool: *mut apr_pool_t) {
    // SAFETY: httpd calls this while it loads modules; the record is static, the names literals.
    unsafe {
        ap_register_auth_provider(
            pool,
            AUTHZ_PROVIDER_GROUP.as_ptr(),
            c"wsgi-group".as_ptr(),
            AUTHZ_PROVIDER_VERSION.as_ptr(),
            (&raw const PROVIDER).cast(),
            AP_AUTH_INTERNAL_PER_CONF as c_int,
        )
    };
}

/// What cannot be asked, or answers what it may not, is a general error and not a denial: `Require
/// not wsgi-group` makes nothing of a denial, and so would let in whom the script was to keep out.
unsafe extern "C" fn check_authorization(
    raw: *mut request_rec,
    require_line: *const c_char,
    _parsed: *const c_void,
) -> authz_status {
    boundary::decision(AUTHZ_GENERAL_ERROR, || {
        // SAFETY: httpd calls a provider with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        let record = r.record();
        if record.user.is_null() {
            return AUTHZ_DENIED_NO_USER;
        }
        // SAFETY: the record is of this type, and nobody changes it once requests are served.
        let config = unsafe { &*r.configuration().cast::<DirectoryConfig>() };
        let Some(hook) = &config.auth_group_script else {
            refuse_missing(r, "WSGIAuthGroupScript", "Require wsgi-group");
            return AUTHZ_GENERAL_ERROR;
        };
        let call = Call {
            function: c"groups_for_user",
            arguments: vec![r.text(record.user).to_vec()],
            names: true,
            ..Call::default()
        };
        match ask(r, config, hook, call) {
            Ok(Value::Names(names)) => {
                let mut wanted = words(r.text(require_line));
                if wanted.any(|group| names.contains(&group)) {
                    AUTHZ_GRANTED
                } else {
                    AUTHZ_DENIED
                }
            }
            Ok(other) => {
                let wanted = "an iterable of names, each a str or bytes";
                refuse_result(r, hook, "groups_for_user", &other, wanted);
                AUTHZ_GENERAL_ERROR
            }
            Err(_) => AUTHZ_GENERAL_ERROR,
        }
    })
}

unsafe extern "C" fn parse_require_line(
    parameters: *mut cmd_parms,
    require_line: *const c_char,
    _parsed: *mut *const c_void,
) -> *const c_char {
    // SAFETY: httpd passes live parameters, whose pool outlives the configuration.
    let pool = unsafe { (*parameters).pool };
    boundary::directive(pool, || {
        // SAFETY: httpd passes the rest of the line, a C string.
        let line = unsafe { CStr::from_ptr(require_line) };
        match words(line.to_bytes()).next() {
            Some(_) => Ok(()),
            None => Err("Require wsgi-group: the name of a group is missing".to_owned()),
        }
    })
}
