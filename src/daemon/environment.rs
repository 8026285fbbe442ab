//! The environment of a worker process, and its locale, before Python starts.

use super::identity::Account;
use super::{ProcessGroup, Python};
use crate::Code;
use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// What may say who the user is. HOME is always set.
const USER_NAMES: [&str; 3] = ["USER", "USERNAME", "LOGNAME"];

/// Sets what the configuration says about the environment, and what follows from who the process is.
/// Returns a warning where the system does not have the locale.
///
/// # Safety
///
/// The process has this one thread.
pub(crate) unsafe fn set_up(group: &ProcessGroup, account: &Account) -> Option<String> {
    let python = &group.python;
    // SAFETY: the caller's promise.
    let set = |name: &str, value: &OsStr| unsafe { env::set_var(name, value) };
    // SAFETY: the caller's promise.
    let remove = |name: &str| unsafe { env::remove_var(name) };
    let names = USER_NAMES.into_iter().filter(|name| env::var_os(name).is_some());
    match &account.entry {
        Some(entry) => {
            names.for_each(|name| set(name, entry.name.as_ref()));
            set("HOME", entry.dir.as_os_str());
        }
        // They are somebody else's.
        None if account.changed => names.chain(["HOME"]).for_each(remove),
        None => {}
    }
    if let Some(lang) = &python.lang {
        set("LANG", OsStr::from_bytes(lang));
    }
    if let Some(locale) = &python.locale {
        set("LC_ALL", OsStr::from_bytes(locale));
    }
    if let Some(eggs) = &python.eggs {
        set("PYTHON_EGG_CACHE", eggs.as_os_str());
    }
    set_locale(group)
}

/// Has the C library take the locale that the configuration names; otherwise, as every Python does at
/// its start, the encoding that the environment names.
fn set_locale(group: &ProcessGroup) -> Option<String> {
    let Python { locale, lang, .. } = &group.python;
    let adopted = match locale {
        Some(name) => CString::new(&name[..]).is_ok_and(|name| adopt(libc::LC_ALL, &name)),
        None => adopt(libc::LC_CTYPE, c""),
    };
    let (option, given) = match (locale, lang) {
        (Some(locale), _) => ("locale", locale),
        (None, Some(lang)) => ("lang", lang),
        // What httpd was started with is not ours to complain about.
        (None, None) => return None,
    };
    let warning = || {
        format!(
            "{}: process group '{}': {option}={} is no locale of this system, and that of C is used; \
             locale -a lists those it has",
            Code::NoLocale,
            group.name,
            String::from_utf8_lossy(given)
        )
    };
    (!adopted).then(warning)
}

fn adopt(category: libc::c_int, name: &CStr) -> bool {
    // SAFETY: a C string; no other thread asks for the locale, since there is none.
    !unsafe { libc::setlocale(category, name.as_ptr()) }.is_null()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::identity::take_on;
    use crate::daemon::own_process::{USER, as_root, group, in_its_own_process, with_carol};
    use std::path::Path;

    /// Sets up the environment of a process that is who it was, and returns the warning.
    fn set_up_here(group: &ProcessGroup) -> Option<String> {
        let account = Account { entry: None, changed: false };
        // SAFETY: each test here has a process of its own, with one thread.
        unsafe { set_up(group, &account) }
    }

    fn set(name: &str, value: &str) {
        // SAFETY: see above.
        unsafe { env::set_var(name, value) };
    }

    fn variable(name: &str) -> Option<String> {
        env::var_os(name).map(|value| value.into_string().expect("text"))
    }

    /// What the C library has for a category.
    fn locale(category: libc::c_int) -> String {
        // SAFETY: a null name asks for what is set.
        let name = unsafe { libc::setlocale(category, std::ptr::null()) };
        // SAFETY: it is a C string until the locale is set again.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    #[test]
    fn variables_that_name_the_user_name_the_new_one() {
        as_root(|folder| {
            let Some(user) = with_carol(folder, "/usr") else { return };
            for name in ["HOME", "USER", "LOGNAME"] {
                set(name, "root");
            }
            // SAFETY: see above.
            unsafe { env::remove_var("USERNAME") };
            let mut group = group();
            group.identity.user = Some(user);
            let account = take_on(&group, Some(USER)).expect("it is taken on");
            // SAFETY: see above.
            assert_eq!(unsafe { set_up(&group, &account) }, None);
            for (name, value) in [("USER", "carol"), ("LOGNAME", "carol"), ("HOME", "/usr")] {
                assert_eq!(variable(name).as_deref(), Some(value), "{name}");
            }
            assert_eq!(variable("USERNAME"), None);
        });
    }

    #[test]
    fn a_user_that_the_database_does_not_know_is_not_called_by_the_name_of_another() {
        as_root(|_| {
            for name in ["HOME", "USER", "LOGNAME", "USERNAME"] {
                set(name, "root");
            }
            let account = take_on(&group(), Some(USER)).expect("it is taken on");
            // SAFETY: see above.
            assert_eq!(unsafe { set_up(&group(), &account) }, None);
            for name in ["HOME", "USER", "LOGNAME", "USERNAME"] {
                assert_eq!(variable(name), None, "{name}");
            }
        });
    }

    #[test]
    fn a_process_that_is_who_it_was_is_called_as_before() {
        in_its_own_process(|_| {
            set("HOME", "/somewhere");
            set("USER", "somebody");
            assert_eq!(set_up_here(&group()), None);
            assert_eq!(variable("HOME").as_deref(), Some("/somewhere"));
            assert_eq!(variable("USER").as_deref(), Some("somebody"));
        });
    }

    #[test]
    fn a_locale_is_that_of_the_environment_and_of_the_c_library() {
        in_its_own_process(|_| {
            let mut group = group();
            group.python.lang = Some(b"C".to_vec());
            group.python.locale = Some(b"C.UTF-8".to_vec());
            group.python.eggs = Some(Path::new("/var/eggs").to_owned());
            assert_eq!(set_up_here(&group), None);
            assert_eq!(variable("LANG").as_deref(), Some("C"));
            assert_eq!(variable("LC_ALL").as_deref(), Some("C.UTF-8"));
            assert_eq!(variable("PYTHON_EGG_CACHE").as_deref(), Some("/var/eggs"));
            for category in [libc::LC_CTYPE, libc::LC_NUMERIC, libc::LC_TIME] {
                assert_eq!(locale(category), "C.UTF-8", "{category}");
            }
        });
    }

    #[test]
    fn a_language_says_what_the_encoding_is() {
        in_its_own_process(|_| {
            for name in ["LC_ALL", "LC_CTYPE"] {
                // SAFETY: see above.
                unsafe { env::remove_var(name) };
            }
            set("LANG", "C");
            let mut group = group();
            group.python.lang = Some(b"C.UTF-8".to_vec());
            assert_eq!(set_up_here(&group), None);
            assert_eq!(variable("LANG").as_deref(), Some("C.UTF-8"));
            assert_eq!([libc::LC_CTYPE, libc::LC_TIME].map(locale), ["C.UTF-8", "C"]);
        });
    }

    #[test]
    fn a_locale_that_the_system_does_not_have_is_said_and_the_process_goes_on() {
        in_its_own_process(|_| {
            let mut group = group();
            group.python.locale = Some(b"xx_YY".to_vec());
            assert_eq!(
                set_up_here(&group).as_deref(),
                Some(
                    "MNF0052: process group 'workers': locale=xx_YY is no locale of this system, and that of C is \
                     used; locale -a lists those it has"
                )
            );
            assert_eq!(variable("LC_ALL").as_deref(), Some("xx_YY"));
            assert_eq!(locale(libc::LC_CTYPE), "C");
        });
    }
}
