//! A Django project's static files: where its settings have them, and at which URL.

use crate::app::{App, Kind};
use crate::conf::mount_point;
use crate::failure::{During as _, Outcome};
use crate::home::Home;
use crate::installation::Version;
use crate::options::Server;
use crate::terminal::step;
use crate::user::User;
use serde::Deserialize;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Prints the settings that matter. What else the project prints goes to standard error.
const SCRIPT: &str = "\
import json, os, sys
answers = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)
sys.path[:0] = sys.argv[2:]
os.environ.setdefault('DJANGO_SETTINGS_MODULE', sys.argv[1])
from django.conf import settings
def setting(name):
    return getattr(settings, name, None)
used = [*(setting('MIDDLEWARE') or []), *(setting('INSTALLED_APPS') or [])]
# As it is written: Django puts the mount point before a relative one, of each request.
url = getattr(settings._wrapped, 'STATIC_URL', None)
root = setting('STATIC_ROOT')
json.dump({'url': url, 'root': root and os.path.abspath(root), 'own': any('whitenoise' in name for name in used)}, answers)
";

#[derive(Deserialize)]
struct Settings {
    url: Option<String>,
    root: Option<PathBuf>,
    /// The project serves them itself.
    own: bool,
}

/// The URL path and the folder of the static files that httpd can serve, if there are any; says why not.
pub(crate) fn static_files(
    app: &App,
    options: &Server,
    home: Option<&Home>,
    python: Version,
    user: Option<&User>,
) -> Outcome<Option<(String, PathBuf)>> {
    if app.kind != Kind::Django {
        return Ok(None);
    }
    let without = |why: &str| {
        step(&format!("static files of the project are not served: {why}"));
        Ok(None)
    };
    let Some(program) = crate::home::program(home, python) else {
        return without(&format!("there is no program python{python} to read its settings with"));
    };
    let mut command = Command::new(&program);
    command.args(["-P", "-B", "-c", SCRIPT, &app.target]).arg(&app.folder);
    command.args(&options.python.python_path).current_dir(&app.folder).stdin(Stdio::null());
    if let Some(user) = user {
        user.runs(&mut command);
    }
    let output = command.output().during(|| format!("{} cannot be run", program.display()))?;
    let Ok(settings) = serde_json::from_slice::<Settings>(&output.stdout) else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return without(&format!(
            "its settings cannot be read: {}",
            said.trim().lines().last().unwrap_or("nothing was said")
        ));
    };
    let (Some(url), Some(root), false) = (settings.url, settings.root, settings.own) else {
        // Without STATIC_ROOT, or by WhiteNoise, that is how the project is meant.
        return Ok(None);
    };
    if url.contains("://") {
        return Ok(None);
    }
    if !root.is_dir() {
        return without(&format!(
            "there is no {} yet (manage.py collectstatic makes it)",
            root.display()
        ));
    }
    let url = match url.strip_prefix('/') {
        Some(absolute) => format!("/{absolute}"),
        None => format!("{}/{url}", mount_point(&options.mount_point)?),
    };
    Ok(Some((url.trim_end_matches('/').to_owned(), root)).filter(|(url, _)| !url.is_empty()))
}
