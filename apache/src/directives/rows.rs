//! What httpd and the documentation are told of each directive. No functions here, so that a test
//! can hold the pages to it without a httpd around.

use httpd_sys::{ACCESS_CONF, GLOBAL_ONLY, OR_AUTHCFG, OR_FILEINFO, RSRC_CONF};
use std::ffi::CStr;

/// Every directive of this module: its syntax and place, and the head of its page in
/// docs/directives.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: c"WSGIHandlerScript",
        arguments: c"name path [process-group=G] [application-group=A] [pass-authorization=On|Off]",
        default: "none",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIScriptAlias",
        arguments: c"url-path file-or-directory [process-group=G] [application-group=A] [callable-object=N] [pass-authorization=On|Off]",
        default: "none",
        place: Place::Server,
    },
    Row {
        name: c"WSGICallableObject",
        arguments: c"name",
        default: "`application`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIScriptReloading",
        arguments: c"On|Off",
        default: "`On`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIPassAuthorization",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIProcessGroup",
        arguments: c"name",
        default: "`%{GLOBAL}`",
        place: Place::Section,
    },
    Row {
        name: c"WSGIApplicationGroup",
        arguments: c"name",
        default: "`%{RESOURCE}`",
        place: Place::Section,
    },
    Row {
        name: c"WSGIAccessScript",
        arguments: c"path [application-group=A]",
        default: "none",
        place: Place::Access,
    },
    Row {
        name: c"WSGIAuthUserScript",
        arguments: c"path [application-group=A]",
        default: "none",
        place: Place::Access,
    },
    Row {
        name: c"WSGIAuthGroupScript",
        arguments: c"path [application-group=A]",
        default: "none",
        place: Place::Access,
    },
    Row {
        name: c"WSGIGroupAuthoritative",
        arguments: c"On|Off",
        default: "`On`",
        place: Place::Access,
    },
    Row {
        name: c"WSGIDispatchScript",
        arguments: c"path [application-group=A]",
        default: "none",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIRestrictEmbedded",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPythonHome",
        arguments: c"directory",
        default: "what CPython finds by itself",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPythonPath",
        arguments: c"directory[:directory...]",
        default: "none",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPerInterpreterGIL",
        arguments: c"On|Off|Auto",
        default: "`Auto`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIInterpreterThreads",
        arguments: c"number",
        default: "the number of request threads of an httpd child",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIInterpreterLimit",
        arguments: c"number",
        default: "`64`",
        place: Place::MainServer,
    },
];

/// One directive.
pub(super) struct Row {
    pub(super) name: &'static CStr,
    /// What follows the name.
    pub(super) arguments: &'static CStr,
    /// What holds without it, for its page.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds the pages to it"))]
    default: &'static str,
    pub(super) place: Place,
}

/// Where a directive may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The main server config: it is about whole processes.
    MainServer,
    /// The main server config and virtual hosts: it is about the URL space of a server.
    Server,
    /// There, and in `<Directory>`, `<Location>`, `<Files>` and the like.
    Section,
    /// There, and in .htaccess where `AllowOverride FileInfo` allows it.
    Htaccess,
    /// In `<Directory>`, `<Location>`, `<Files>` and the like, and in .htaccess where
    /// `AllowOverride AuthConfig` allows it: it is about who may come in.
    Access,
}

impl Place {
    /// The bits that httpd compares.
    pub(super) const fn allowed(self) -> u32 {
        match self {
            Self::MainServer | Self::Server => RSRC_CONF,
            Self::Section => RSRC_CONF | ACCESS_CONF,
            Self::Htaccess => OR_FILEINFO,
            Self::Access => OR_AUTHCFG,
        }
    }

    /// What those bits leave open: httpd itself refuses all else.
    pub(super) fn forbidden(self) -> u32 {
        match self {
            Self::MainServer => GLOBAL_ONLY,
            Self::Server | Self::Section | Self::Htaccess | Self::Access => 0,
        }
    }

    /// As the pages say it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::MainServer => "server config",
            Self::Server => "server config, virtual host",
            Self::Section => "server config, virtual host, directory",
            Self::Htaccess => "server config, virtual host, directory, .htaccess (FileInfo)",
            Self::Access => "directory, .htaccess (AuthConfig)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS, Row};
    use std::path::Path;

    /// The beginning of a directive's page, which the table knows.
    fn head(row: &Row) -> String {
        let (name, arguments) = (row.name.to_str().unwrap(), row.arguments.to_str().unwrap());
        format!(
            "# {name}\n\n|  |  |\n|---|---|\n| Syntax | `{name} {arguments}` |\n| Default | {} |\n\
             | Context | {} |\n\n",
            row.default,
            row.place.describe()
        )
    }

    /// With MANIFOLD_UPDATE_DOCS set, the heads are written instead.
    #[test]
    fn every_directive_has_a_page_that_begins_as_the_table_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/directives");
        for row in ROWS {
            let path = folder.join(format!("{}.md", row.name.to_str().unwrap()));
            let page = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if std::env::var_os("MANIFOLD_UPDATE_DOCS").is_some() {
                let (_, text) = page.split_once("| Context |").expect("a page has a head");
                let (_, text) = text.split_once("\n\n").expect("a head ends with an empty line");
                std::fs::write(&path, head(row) + text).unwrap();
            } else {
                assert!(
                    page.starts_with(&head(row)),
                    "{}: its head is not:\n{}",
                    path.display(),
                    head(row)
                );
            }
        }
        let pages = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(pages, ROWS.len(), "there is a page for something that is no directive");
    }
}
