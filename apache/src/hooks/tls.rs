//! What hook scripts may ask about the connection's encryption, of mod_ssl where it is loaded.

use crate::request::Request;
use httpd_sys::*;
use std::ffi::{CString, c_char, c_int};

/// mod_ssl's `ssl_is_https`.
type IsHttps = unsafe extern "C" fn(*mut conn_rec) -> c_int;

/// mod_ssl's `ssl_var_lookup`.
type VarLookup = unsafe extern "C" fn(
    *mut apr_pool_t,
    *mut server_rec,
    *mut conn_rec,
    *mut request_rec,
    *mut c_char,
) -> *mut c_char;

/// Whether the connection is encrypted.
pub(super) fn is_https(r: Request<'_>) -> bool {
    // SAFETY: the name is a literal; where a module has registered it, the function is of this
    // type, by mod_ssl.h.
    let function = unsafe { apr_dynamic_fn_retrieve(c"ssl_is_https".as_ptr()) };
    let Some(function) = function else { return false };
    // SAFETY: see above.
    let function: IsHttps = unsafe { std::mem::transmute(function) };
    // SAFETY: a request has a connection for as long as it lives.
    unsafe { function(r.record().connection) != 0 }
}

/// The value of a variable such as `SSL_CLIENT_S_DN`.
pub(super) fn variable(r: Request<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    // SAFETY: as in `is_https`.
    let function = unsafe { apr_dynamic_fn_retrieve(c"ssl_var_lookup".as_ptr()) }?;
    // SAFETY: see above.
    let function: VarLookup = unsafe { std::mem::transmute(function) };
    let record = r.record();
    let name = r.copy(name.as_bytes());
    // SAFETY: all are this request's and live as long as it does, the name's copy too.
    let value = unsafe { function(r.pool(), record.server, record.connection, r.raw(), name) };
    (!value.is_null()).then(|| r.text(value).to_vec())
}
