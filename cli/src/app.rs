//! What is to be served: a script, a module's callable, or a Django project.
#![forbid(unsafe_code)]

use crate::failure::{During as _, Outcome, fail};
use crate::user::absolute;
use std::path::{Path, PathBuf};

/// What the callable is called, where nothing else is said.
const CALLABLE: &str = "application";

/// An application, found in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) kind: Kind,
    /// A path, the name of a module, or that of Django's settings.
    pub(crate) target: String,
    /// The names that are tried, in this order.
    pub(crate) callables: Vec<String>,
    /// Where it works, and what comes first on `sys.path`.
    pub(crate) folder: PathBuf,
}

/// How it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Script,
    Module,
    Django,
}

impl Kind {
    /// As the handler script has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Module => "module",
            Self::Django => "django",
        }
    }
}

impl App {
    /// A file, a folder with `manage.py`, or `package.module[:callable]`.
    pub(crate) fn find(text: &str, callable: Option<&str>, folder: Option<&Path>) -> Outcome<Self> {
        let path = Path::new(text);
        let folder = folder.map(absolute).transpose()?;
        if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) {
            return fail(format!(
                "--working-directory {}: there is no such folder",
                folder.display()
            ));
        }
        if path.is_file() {
            return Self::script(&absolute(path)?, callable, folder);
        }
        if path.is_dir() {
            return Self::django(&absolute(path)?, folder);
        }
        let (module, named) = match text.split_once(':') {
            Some((module, named)) => (module, Some(named)),
            None => (text, None),
        };
        let is_name = |text: &str| text.split('.').all(is_identifier);
        if !is_name(module) || !named.is_none_or(is_name) {
            return fail(format!(
                "there is no file or folder {text}, and it is no name of a module either. An application \
                 is a WSGI script, the folder of a Django project, or package.module:callable"
            ));
        }
        let folder = match folder {
            Some(folder) => folder,
            None => std::env::current_dir().during(|| "the current folder".to_owned())?,
        };
        let callables = vec![named.or(callable).unwrap_or(CALLABLE).to_owned()];
        Ok(Self { kind: Kind::Module, target: module.to_owned(), callables, folder })
    }

    fn script(path: &Path, callable: Option<&str>, folder: Option<PathBuf>) -> Outcome<Self> {
        let Some(target) = path.to_str() else {
            return fail(format!(
                "{}: its name is no UTF-8, which a configuration needs",
                path.display()
            ));
        };
        let callables = match callable {
            Some(callable) => vec![callable.to_owned()],
            None => vec![CALLABLE.to_owned(), "handle_request".to_owned()],
        };
        let beside = path.parent().unwrap_or(Path::new("/")).to_owned();
        let folder = folder.unwrap_or(beside);
        Ok(Self { kind: Kind::Script, target: target.to_owned(), callables, folder })
    }

    fn django(project: &Path, folder: Option<PathBuf>) -> Outcome<Self> {
        let manage = project.join("manage.py");
        let Ok(text) = std::fs::read_to_string(&manage) else {
            return fail(format!(
                "{} is a folder without manage.py, so no Django project. Name a WSGI script in it, or a \
                 module with --working-directory {}",
                project.display(),
                project.display()
            ));
        };
        let Some(settings) = settings_in(&text) else {
            return fail(format!(
                "{} does not set DJANGO_SETTINGS_MODULE, by which the project is found: name its WSGI \
                 module with --working-directory {}",
                manage.display(),
                project.display()
            ));
        };
        let folder = folder.unwrap_or_else(|| project.to_owned());
        Ok(Self { kind: Kind::Django, target: settings, callables: Vec::new(), folder })
    }

    /// What its groups are called.
    pub(crate) fn name(&self) -> String {
        let stem = match self.kind {
            Kind::Script => Path::new(&self.target)
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            Kind::Module | Kind::Django => {
                self.target.split('.').next().unwrap_or_default().to_owned()
            }
        };
        let usual = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name: String = stem.chars().map(|c| if usual(c) { c } else { '-' }).collect();
        if name.is_empty() { "application".to_owned() } else { name }
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            Kind::Script => self.target.clone(),
            Kind::Module => format!(
                "{}:{} in {}",
                self.target,
                self.callables.join(", "),
                self.folder.display()
            ),
            Kind::Django => {
                format!("the Django project in {} ({})", self.folder.display(), self.target)
            }
        }
    }

    /// What httpd's user must be able to read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let script = (self.kind == Kind::Script).then(|| PathBuf::from(&self.target));
        script.into_iter().chain([self.folder.clone()]).collect()
    }
}

/// `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site.settings")`, as Django writes it.
fn settings_in(manage: &str) -> Option<String> {
    let (_, rest) = manage.split_once("DJANGO_SETTINGS_MODULE")?;
    let rest = rest.get(1..)?; // the closing quote of that name
    let rest = rest.trim_start_matches([' ', ',', '\n', ']', '=']);
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let name = rest[1..].split(quote).next()?;
    name.split('.').all(is_identifier).then(|| name.to_owned())
}

fn is_identifier(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && letters.all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_django_project_are_those_that_its_manage_py_names() {
        let text = "    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n";
        assert_eq!(settings_in(text).as_deref(), Some("shop.settings"));
        let text = "os.environ[\"DJANGO_SETTINGS_MODULE\"] = \"a.b.c\"";
        assert_eq!(settings_in(text).as_deref(), Some("a.b.c"));
        assert_eq!(settings_in("DJANGO_SETTINGS_MODULE"), None);
        assert_eq!(settings_in("print('hello')"), None);
    }

    #[test]
    fn a_name_that_is_no_file_is_a_module_with_its_callable() {
        let app = App::find("no_such.module:make", None, None).expect("it is a name");
        assert_eq!((app.kind, &*app.target), (Kind::Module, "no_such.module"));
        assert_eq!(app.callables, ["make"]);
        assert_eq!(app.name(), "no_such");
        assert!(App::find("no such", None, None).is_err());
        assert!(App::find("no/such.wsgi", None, None).is_err());
    }
}
