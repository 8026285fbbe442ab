//! WSGIAuthUserScript: whose password is right, for `AuthBasicProvider wsgi` and
//! `AuthDigestProvider wsgi`.

use super::{ask, refuse_missing, refuse_result};
use crate::boundary;
use crate::config::DirectoryConfig;
use crate::request::Request;
use httpd_sys::*;
use manifold::{Call, Value};
use std::ffi::{CStr, c_char, c_int};

static PROVIDER: authn_provider =
    authn_provider { check_password: Some(check_password), get_realm_hash: Some(get_realm_hash) };

/// Registers the provider `wsgi`.
pub(super) fn register(pool: *mut apr_pool_t) {
    // SAFETY: httpd calls this while it loads modules; the record is static, the names literals.
    unsafe {
        ap_register_auth_provider(
            pool,
            AUTHN_PROVIDER_GROUP.as_ptr(),
            c"wsgi".as_ptr(),
            AUTHN_PROVIDER_VERSION.as_ptr(),
            (&raw const PROVIDER).cast(),
            AP_AUTH_INTERNAL_PER_CONF as c_int,
        )
    };
}

unsafe extern "C" fn check_password(
    raw: *mut request_rec,
    user: *const c_char,
    password: *const c_char,
) -> authn_status {
    boundary::decision(AUTH_GENERAL_ERROR, || {
        // SAFETY: httpd calls a provider with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        let arguments = [user, password].map(|text| r.text(text).to_vec());
        decide(r, "AuthBasicProvider wsgi", c"check_password", arguments, |value| {
            Ok(match value {
                Value::None => AUTH_USER_NOT_FOUND,
                Value::Bool(true) => AUTH_GRANTED,
                Value::Bool(false) => AUTH_DENIED,
                Value::Text(name) if is_user_name(name) => {
                    let name = r.copy(name);
                    r.update(|record| record.user = name);
                    AUTH_GRANTED
                }
                _ => return Err("True, False, None, or the name of the user without controls"),
            })
        })
    })
}

unsafe extern "C" fn get_realm_hash(
    raw: *mut request_rec,
    user: *const c_char,
    realm: *const c_char,
    hash: *mut *mut c_char,
) -> authn_status {
    boundary::decision(AUTH_GENERAL_ERROR, || {
        // SAFETY: httpd calls a provider with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        let arguments = [user, realm].map(|text| r.text(text).to_vec());
        decide(r, "AuthDigestProvider wsgi", c"get_realm_hash", arguments, |value| {
            Ok(match value {
                Value::None => AUTH_USER_NOT_FOUND,
                Value::Text(text) | Value::Bytes(text) if is_md5(text) => {
                    let text = r.copy(&text.to_ascii_lowercase());
                    // SAFETY: httpd passes a place for the answer.
                    unsafe { *hash = text };
                    AUTH_USER_FOUND
                }
                _ => {
                    return Err(
                        "None, or the MD5 of 'user:realm:password' as 32 hexadecimal digits",
                    );
                }
            })
        })
    })
}

/// Asks the script in scope, and has `judge` make a status of its answer, or say what it wants.
fn decide(
    r: Request<'_>,
    asked_by: &str,
    function: &'static CStr,
    arguments: [Vec<u8>; 2],
    judge: impl FnOnce(&Value) -> Result<authn_status, &'static str>,
) -> authn_status {
    // SAFETY: the record is of this type, and nobody changes it once requests are served.
    let config = unsafe { &*r.configuration().cast::<DirectoryConfig>() };
    let Some(hook) = &config.auth_user_script else {
        refuse_missing(r, "WSGIAuthUserScript", asked_by);
        return AUTH_GENERAL_ERROR;
    };
    let arguments = arguments.into();
    let call = Call { function, arguments, confidential: true, ..Call::default() };
    let Ok(value) = ask(r, config, hook, call) else { return AUTH_GENERAL_ERROR };
    judge(&value).unwrap_or_else(|wanted| {
        refuse_result(r, hook, &function.to_string_lossy(), &value, wanted);
        AUTH_GENERAL_ERROR
    })
}

/// Whether a script may say that this is who came: it goes into logs and to applications.
fn is_user_name(name: &[u8]) -> bool {
    !name.is_empty() && !name.iter().any(u8::is_ascii_control)
}

/// An empty hash, above all, is one that everybody knows.
fn is_md5(hash: &[u8]) -> bool {
    hash.len() == 32 && hash.iter().all(u8::is_ascii_hexdigit)
}
