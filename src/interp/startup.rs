//! CPython itself, and how interpreters are made.

use super::ThreadState;
use crate::{Gil, HashSeed, PythonSettings};
use cpython_sys::*;
use std::ffi::{CStr, CString, c_int, c_ulong};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whether interpreters import `site`, which adds `site-packages` to `sys.path` and runs what `.pth`
/// files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Import,
    LeaveOut,
}

/// Starts CPython on this thread, which becomes the main interpreter's. Signals, SIGPIPE and the
/// locale stay as httpd has them; the environment (PYTHONPATH and the like) is honoured.
///
/// Through `PyConfig`, because the older calls end the process where they fail, and a child that
/// dies at birth is born again at once.
///
/// # Errors
///
/// What CPython says it could not do.
pub(crate) fn start_python(
    home: Option<&Path>,
    settings: &PythonSettings,
    site: Site,
) -> Result<ThreadState, String> {
    if let Some(home) = home {
        check_home(home)?;
    }
    preinitialize()?;
    let mut config = Config::new();
    if let Some(home) = home {
        set_home(&mut config, home)?;
    }
    config.0.site_import = (site == Site::Import).into();
    set_flags(&mut config, settings)?;
    let mut argument = c"mod_wsgi".as_ptr();
    // SAFETY: the configuration is initialised, and one argument is given.
    check(unsafe { PyConfig_SetBytesArgv(config.as_mut(), 1, &raw mut argument) })?;
    // SAFETY: nothing of CPython runs yet, and this is the only thread that may start it.
    check(unsafe { Py_InitializeFromConfig(config.as_mut()) })?;
    for module in PREIMPORTS {
        // SAFETY: starting CPython attached this thread.
        let imported = unsafe { PyImport_ImportModule(module.as_ptr()) };
        if imported.is_null() {
            // A Python built without one of these has nothing to protect.
            // SAFETY: attached, with an exception set.
            unsafe { PyErr_Clear() };
        } else {
            // SAFETY: attached, and the reference is ours; sys.modules keeps another.
            unsafe { Py_DECREF(imported) };
        }
    }
    // SAFETY: attached by the state that starting CPython made, which is ours to keep.
    Ok(unsafe { ThreadState::take_current() })
}

/// Makes a sub-interpreter on this thread, which must not be attached to any: so it needs nobody
/// else's GIL.
///
/// # Errors
///
/// What CPython says it could not do.
pub(crate) fn make_subinterpreter(gil: Gil) -> Result<ThreadState, String> {
    let config = match gil {
        Gil::Own => PyInterpreterConfig {
            use_main_obmalloc: 0,
            // A process that was forked from a sub-interpreter dies in CPython 3.12 to 3.15.
            allow_fork: 0,
            allow_exec: 0,
            allow_threads: 1,
            // Monitoring agents and logging.handlers.QueueListener make them.
            allow_daemon_threads: 1,
            check_multi_interp_extensions: 1,
            gil: PyInterpreterConfig_OWN_GIL,
        },
        Gil::Shared => _PyInterpreterConfig_LEGACY_INIT,
    };
    let mut state = std::ptr::null_mut();
    // SAFETY: CPython runs, and no thread state is current on this thread.
    check(unsafe { Py_NewInterpreterFromConfig(&raw mut state, &raw const config) })?;
    if state.is_null() {
        return Err("CPython made no thread state for it".to_owned());
    }
    // SAFETY: on success the thread is attached by the new interpreter's first state.
    Ok(unsafe { ThreadState::take_current() })
}

fn preinitialize() -> Result<(), String> {
    let mut config = MaybeUninit::uninit();
    // SAFETY: it fills the structure.
    unsafe { PyPreConfig_InitPythonConfig(config.as_mut_ptr()) };
    // SAFETY: filled above.
    let mut config = unsafe { config.assume_init() };
    config.parse_argv = 0;
    config.configure_locale = 0;
    config.coerce_c_locale = 0;
    config.coerce_c_locale_warn = 0;
    // SAFETY: nothing of CPython runs yet.
    check(unsafe { Py_PreInitialize(&raw const config) })
}

/// What is wrong with a home, where that can be seen: CPython itself would only say that it finds
/// no codec for file names.
fn check_home(home: &Path) -> Result<(), String> {
    // The directory's own entry: to look at it takes the permission to search the directory.
    match std::fs::metadata(home.join(".")) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err("it is no directory".to_owned()),
        Err(error) => return Err(format!("it is no directory that can be searched: {error}")),
    }
    let Ok(environment) = std::fs::read_to_string(home.join("pyvenv.cfg")) else {
        return Ok(());
    };
    match environment_version(&environment) {
        Some(version) if version != VERSION_TEXT => Err(format!(
            "it is a virtual environment of Python {version}, and this module was built for \
             Python {VERSION_TEXT}"
        )),
        _ => Ok(()),
    }
}

/// `major.minor` of the Python that a virtual environment was made with, by its pyvenv.cfg: `venv`
/// writes `version`, other tools `version_info`.
fn environment_version(text: &str) -> Option<String> {
    let value = |wanted: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let mut numbers = value("version").or_else(|| value("version_info"))?.trim().split('.');
    Some(format!("{}.{}", numbers.next()?, numbers.next()?))
}

/// What the command line of `python` would say.
fn set_flags(config: &mut Config, settings: &PythonSettings) -> Result<(), String> {
    if let Some(level) = settings.optimize {
        config.0.optimization_level = level.into();
    }
    match settings.hash_seed {
        // The environment is asked only where this is left open.
        Some(HashSeed::Random) => config.0.use_hash_seed = 0,
        Some(HashSeed::Fixed(seed)) => {
            config.0.use_hash_seed = 1;
            config.0.hash_seed = c_ulong::from(seed);
        }
        None => {}
    }
    if settings.dont_write_bytecode {
        config.0.write_bytecode = 0;
    }
    for filter in &settings.warnings {
        let wide: Vec<libc::wchar_t> = filter
            .chars()
            .map(|character| libc::wchar_t::try_from(u32::from(character)).unwrap_or_default())
            .chain([0])
            .collect();
        // SAFETY: the list is part of a valid configuration, and the text ends with a NUL.
        check(unsafe { PyWideStringList_Append(&raw mut config.0.warnoptions, wide.as_ptr()) })?;
    }
    Ok(())
}

/// A virtual environment is found by the name of its executable; anything else is a prefix.
fn set_home(config: &mut Config, home: &Path) -> Result<(), String> {
    let config = config.as_mut();
    if home.join("pyvenv.cfg").is_file() {
        let python = home.join("bin/python");
        // SAFETY: the configuration is valid for the call; so is the field, which is part of it.
        set(&python, |text| unsafe {
            PyConfig_SetBytesString(config, &raw mut (*config).program_name, text.as_ptr())
        })?;
        // SAFETY: see above.
        set(&python, |text| unsafe {
            PyConfig_SetBytesString(config, &raw mut (*config).executable, text.as_ptr())
        })
    } else {
        // SAFETY: see above.
        set(home, |text| unsafe {
            PyConfig_SetBytesString(config, &raw mut (*config).home, text.as_ptr())
        })
    }
}

fn set(path: &Path, assign: impl FnOnce(&CStr) -> PyStatus) -> Result<(), String> {
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("{} contains a NUL byte", path.display()))?;
    check(assign(&text))
}

/// A `PyConfig` that is cleared when it is no longer needed.
struct Config(Box<PyConfig>);

impl Config {
    fn new() -> Self {
        let mut config = Box::new(MaybeUninit::<PyConfig>::zeroed());
        // SAFETY: it fills the structure.
        unsafe { PyConfig_InitPythonConfig(config.as_mut_ptr()) };
        // SAFETY: filled above.
        let mut config = unsafe { config.assume_init() };
        config.parse_argv = 0;
        config.install_signal_handlers = 0;
        Self(config)
    }

    fn as_mut(&mut self) -> *mut PyConfig {
        &raw mut *self.0
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: it was initialised, and is cleared once.
        unsafe { PyConfig_Clear(self.as_mut()) }
    }
}

fn check(status: PyStatus) -> Result<(), String> {
    // SAFETY: it looks at the structure it is given.
    if unsafe { PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    let text = |pointer: *const std::ffi::c_char| {
        // SAFETY: where they are set, these are literals inside CPython.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy())
    };
    let exit: c_int = status.exitcode;
    Err(match (text(status.func), text(status.err_msg)) {
        (Some(function), Some(message)) => format!("{function}: {message}"),
        (None, Some(message)) => message.into_owned(),
        _ => format!("CPython asked to exit with status {exit}"),
    })
}

#[cfg(test)]
mod tests {
    use super::environment_version;

    #[test]
    fn a_virtual_environment_says_which_python_it_is_of() {
        let version = |text| environment_version(text);
        let venv = "home = /usr/bin\nversion = 3.11.2\nexecutable = /usr/bin/python3.11\n";
        assert_eq!(version(venv).as_deref(), Some("3.11"));
        assert_eq!(version("version_info = 3.12.0.final.0\n").as_deref(), Some("3.12"));
        assert_eq!(version("version_info=3.12\nversion=3.13.1").as_deref(), Some("3.13"));
        assert_eq!(version("home = /usr/bin\n"), None);
        assert_eq!(version("version = three\n"), None);
    }
}
