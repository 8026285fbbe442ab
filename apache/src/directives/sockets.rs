//! Directives about the sockets and locks of daemon processes. httpd's own processes have neither;
//! the values are checked as mod_wsgi does, and kept.

use super::Directive;
use super::process::os_path;
use httpd_sys::{
    APR_HAS_FCNTL_SERIALIZE, APR_HAS_FLOCK_SERIALIZE, APR_HAS_POSIXSEM_SERIALIZE,
    APR_HAS_PROC_PTHREAD_SERIALIZE, APR_HAS_SYSVSEM_SERIALIZE, ap_server_root_relative,
};
use std::ffi::{CStr, CString};

/// What there is to choose from, and whether this APR has it.
const MUTEXES: [(&str, bool); 6] = [
    ("default", true),
    ("flock", APR_HAS_FLOCK_SERIALIZE != 0),
    ("fcntl", APR_HAS_FCNTL_SERIALIZE != 0),
    ("sysvsem", APR_HAS_SYSVSEM_SERIALIZE != 0),
    ("posixsem", APR_HAS_POSIXSEM_SERIALIZE != 0),
    ("pthread", APR_HAS_PROC_PTHREAD_SERIALIZE != 0),
];

/// `WSGISocketPrefix path`: how the names of sockets begin.
pub(super) fn socket_prefix(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("path")?;
    let text = CString::new(&word[..]).map_err(|_| directive.refuse(&word, "a path"))?;
    // SAFETY: httpd's parameters and their pool are live for the call, and the text is copied.
    let path = unsafe { ap_server_root_relative((*directive.parameters).pool, text.as_ptr()) };
    if path.is_null() {
        return Err(directive.refuse(&word, "a path that can be taken relative to ServerRoot"));
    }
    // SAFETY: it is a C string in the pool.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes().to_vec();
    directive.server().python.socket_prefix = Some(os_path(path));
    Ok(())
}

/// `WSGISocketRotation On|Off`: whether sockets have other names after a graceful restart.
pub(super) fn socket_rotation(directive: &mut Directive<'_>) -> Result<(), String> {
    let flag = directive.on_off()?;
    directive.server().python.socket_rotation = Some(flag);
    Ok(())
}

/// `WSGIAcceptMutex method`: the lock that daemon processes accept connections under.
pub(super) fn accept_mutex(directive: &mut Directive<'_>) -> Result<(), String> {
    let word = directive.only("method")?;
    let mut known = MUTEXES.iter().filter(|(_, here)| *here).map(|(name, _)| *name);
    if let Some(name) = known.clone().find(|name| word.eq_ignore_ascii_case(name.as_bytes())) {
        directive.server().python.accept_mutex = Some(name);
        return Ok(());
    }
    let first = known.next().unwrap_or_default();
    let accepted = known.fold(first.to_owned(), |list, name| format!("{list}, {name}"));
    Err(directive.refuse(&word, &format!("one of {accepted}")))
}
