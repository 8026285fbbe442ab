//! A folder in which the blocks of a page mean what they say: what they call `/srv` and `/etc` is below it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{folder, is_root, variable, write};
use crate::pages::{Block, top};

/// A script for every name that a block calls a script by without showing it.
const SCRIPT: &str = "\
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'an application']

handle_request = application
";

/// The smallest project of Django.
const DJANGO: [(&str, &str); 2] = [
    ("manage.py", "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_settings')\n"),
    (
        "site_settings.py",
        "from django.http import HttpResponse\n\
         from django.urls import path\n\
         ALLOWED_HOSTS = ['*']\n\
         ROOT_URLCONF = __name__\n\
         SECRET_KEY = 'known to everyone who reads the tests'\n\
         urlpatterns = [path('', lambda request: HttpResponse('an application'))]\n",
    ),
];

/// One folder for one page.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// With the scripts, the virtual environment and the configuration that pages speak of.
    pub(crate) fn new(venv: &Path) -> Self {
        let folder = folder();
        let root = folder.path();
        for script in ["app.wsgi", "srv/shop/app.wsgi", "srv/hello/app.wsgi", "srv/www/app.wsgi"] {
            write(root, script, SCRIPT);
        }
        for place in ["srv/venv", "srv/shop/venv", "srv/hello/venv"] {
            symlink(venv, root.join(place)).expect("a link to the virtual environment");
        }
        fs::create_dir_all(root.join("target")).expect("a folder");
        fs::create_dir_all(root.join("etc/bash_completion.d")).expect("a folder");
        write(root, "srv/shop/shop/wsgi.py", SCRIPT);
        for (file, text) in DJANGO {
            write(root, &format!("srv/django-project/{file}"), text);
        }
        let built = program().parent().expect("a folder").to_owned();
        symlink(built, root.join("target/release")).expect("a link to what was built");
        symlink(top().join("python"), root.join("python")).expect("a link to the packages");
        let scratch = Self { folder };
        write(scratch.path(), "etc/apache2/apache2.conf", &scratch.server());
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Saves a block under the name that its page gives it.
    pub(crate) fn save(&self, block: &Block) {
        if let Some(file) = block.value("file") {
            write(self.path(), file.trim_start_matches('/'), &block.text);
        }
    }

    /// The text of a block, with the paths and users that are here.
    pub(crate) fn here(&self, text: &str) -> String {
        let root = self.path().display();
        let mut here = String::new();
        for line in text.lines() {
            for (at, word) in line.split(' ').enumerate() {
                let space = if at > 0 { " " } else { "" };
                let word = match word.split_once('=') {
                    Some(("user" | "group", _)) => {
                        format!("{}={}", word.split('=').next().unwrap_or_default(), user())
                    }
                    _ => word
                        .replace("/srv/", &format!("{root}/srv/"))
                        .replace("/etc/", &format!("{root}/etc/")),
                };
                here.push_str(space);
                here.push_str(&word);
            }
            here.push('\n');
        }
        here
    }

    /// What httpd needs around a block, and the module.
    pub(crate) fn server(&self) -> String {
        let root = self.path().display();
        let mut conf = format!(
            "ServerRoot \"{root}\"\nServerName manifold.test\nPidFile httpd.pid\nErrorLog error.log\n"
        );
        if is_root() {
            conf += &format!("User {}\n", user());
        }
        conf += modules();
        conf + &format!("LoadModule wsgi_module \"{}\"\n", variable("MANIFOLD_MODULE").display())
    }
}

/// The modules of httpd's whose directives pages use, with what these need.
const MODULES: [&str; 26] = [
    "mpm_event",
    "unixd",
    "authn_core",
    "authz_core",
    "authz_host",
    "authz_user",
    "auth_basic",
    "auth_digest",
    "alias",
    "dir",
    "env",
    "setenvif",
    "mime",
    "headers",
    "rewrite",
    "remoteip",
    "status",
    "proxy",
    "proxy_http",
    "slotmem_shm",
    "watchdog",
    "proxy_balancer",
    "proxy_hcheck",
    "lbmethod_byrequests",
    "lbmethod_bybusyness",
    "actions",
];

/// The lines that load them, but for those that are compiled in: httpd refuses the block that lacks one.
fn modules() -> &'static str {
    static LINES: OnceLock<String> = OnceLock::new();
    LINES.get_or_init(|| {
        let mut apxs = Command::new(variable("MANIFOLD_APXS"));
        let output = apxs.args(["-q", "LIBEXECDIR"]).output().expect("apxs runs");
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let files = MODULES.map(|module| (module, folder.join(format!("mod_{module}.so"))));
        let there = files.iter().filter(|(_, file)| file.is_file());
        there
            .map(|(module, file)| format!("LoadModule {module}_module \"{}\"\n", file.display()))
            .collect()
    })
}

/// Who is there on every machine: whom httpd's children run as.
pub(crate) fn user() -> String {
    match std::env::var("MANIFOLD_USER").ok().filter(|name| !name.is_empty()) {
        Some(user) => user,
        None => {
            let output = Command::new("id").arg("-un").output().expect("id runs");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    }
}

/// `manifold`.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_manifold"))
}
