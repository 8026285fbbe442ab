//! Regular expressions of the configuration, as httpd's own directives understand them (PCRE).

use crate::request::Request;
use httpd_sys::*;
use std::ffi::{CStr, CString};
use std::ptr::NonNull;

/// How many groups of a match can be referred to, as `$0` to `$9`.
const GROUPS: usize = 10;

/// A compiled regular expression. httpd's pool for the configuration owns it.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(NonNull<ap_regex_t>);

// SAFETY: a compiled expression is only read; httpd's own modules match theirs on all threads at once.
unsafe impl Send for Pattern {}
// SAFETY: see above.
unsafe impl Sync for Pattern {}

impl Pattern {
    /// Compiles an expression, or returns `None` where it is none.
    ///
    /// # Safety
    ///
    /// The pool outlives the pattern and all its clones.
    pub(crate) unsafe fn compile(pool: *mut apr_pool_t, expression: &CStr) -> Option<Self> {
        // SAFETY: the caller's promise; the expression is copied where it is needed.
        NonNull::new(unsafe { ap_pregcomp(pool, expression.as_ptr(), AP_REG_EXTENDED as i32) })
            .map(Self)
    }

    /// What `template` becomes for a subject that matches, with `$0` to `$9` filled in, and the rest
    /// of the subject behind the match. `None` where it does not match, or matches nothing at its
    /// beginning.
    pub(crate) fn expand(
        &self,
        r: Request<'_>,
        subject: &[u8],
        template: &CStr,
    ) -> Option<Vec<u8>> {
        let text = CString::new(subject).ok()?;
        let mut groups = [ap_regmatch_t { rm_so: -1, rm_eo: -1 }; GROUPS];
        // SAFETY: the expression lives as long as the configuration that the request is served
        // under; the subject is a C string and the groups are ours, as many as we say.
        let status =
            unsafe { ap_regexec(self.0.as_ptr(), text.as_ptr(), GROUPS, groups.as_mut_ptr(), 0) };
        let end = usize::try_from(groups[0].rm_eo).ok().filter(|end| status == 0 && *end > 0)?;
        // SAFETY: template and subject are C strings, the groups are of this subject, and the
        // request's pool lives as long as the hook.
        let expanded = unsafe {
            ap_pregsub(r.pool(), template.as_ptr(), text.as_ptr(), GROUPS, groups.as_mut_ptr())
        };
        // Null where the result would be too long.
        (!expanded.is_null()).then(|| [r.text(expanded), &subject[end..]].concat())
    }
}
