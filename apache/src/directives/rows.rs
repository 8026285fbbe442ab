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
        name: c"WSGIScriptAliasMatch",
        arguments: c"regular-expression file-or-directory [process-group=G] [application-group=A] [callable-object=N] [pass-authorization=On|Off]",
        default: "none",
        place: Place::Server,
    },
    Row {
        name: c"WSGIImportScript",
        arguments: c"path process-group=G application-group=A",
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
        arguments: c"On|Off|Interpreter",
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
        name: c"WSGIDaemonProcess",
        arguments: c"name [option=value ...]",
        default: "none",
        place: Place::Server,
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
        name: c"WSGIChunkedRequest",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIErrorOverride",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIMapHEADToGET",
        arguments: c"On|Off|Auto",
        default: "`Auto`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIEnableSendfile",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGITrustedProxyHeaders",
        arguments: c"name [name...]",
        default: "none",
        place: Place::Htaccess,
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
        name: c"WSGITrustedProxies",
        arguments: c"address[/mask] [address[/mask]...]",
        default: "none: whoever it is",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIPassApacheRequest",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIIgnoreActivity",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::Htaccess,
    },
    Row {
        name: c"WSGIRestrictProcess",
        arguments: c"name [name...]",
        default: "none: all",
        place: Place::Section,
    },
    Row {
        name: c"WSGICaseSensitivity",
        arguments: c"On|Off",
        default: "`On`",
        place: Place::MainServer,
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
        name: c"WSGIPythonOptimize",
        arguments: c"0|1|2",
        default: "what the environment says (PYTHONOPTIMIZE), else 0",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPythonWarnings",
        arguments: c"filter",
        default: "none",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPythonHashSeed",
        arguments: c"random|number",
        default: "what the environment says (PYTHONHASHSEED), else random",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIDontWriteBytecode",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPythonEggs",
        arguments: c"directory",
        default: "none",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIDestroyInterpreter",
        arguments: c"On|Off",
        default: "`On`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPythonPath",
        arguments: c"directory[:directory...]",
        default: "none",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIDaemonWorker",
        arguments: c"path",
        default: "`manifold-worker` in the folder of the module",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIPerInterpreterGIL",
        arguments: c"On|Off|Auto",
        default: "`Auto`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIFreeThreading",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGISwitchInterval",
        arguments: c"seconds",
        default: "what CPython takes, 0.005",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIRestrictStdin",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIRestrictStdout",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIRestrictSignal",
        arguments: c"On|Off",
        default: "`On`",
        place: Place::MainServer,
    },
    Row {
        name: c"<WSGIInterpreterOptions",
        arguments: c"[process-group=name] [application-group=name]> ... </WSGIInterpreterOptions>",
        default: "none",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIRequestTimeout",
        arguments: c"seconds [seconds-to-end]|Off",
        default: "`Off`",
        place: Place::Section,
    },
    Row {
        name: c"WSGIReplicas",
        arguments: c"number|Auto",
        default: "`1`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIInterpreterMaximumRequests",
        arguments: c"number",
        default: "none: an interpreter is not replaced for its age",
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
    Row {
        name: c"WSGIQueueLimit",
        arguments: c"number",
        default: "twice the number of request threads of an httpd child, but at least 64",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIResponseBufferLimit",
        arguments: c"bytes",
        default: "`268435456` (256 MiB)",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGISlowRequests",
        arguments: c"seconds",
        default: "none: nothing is said",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIVerboseDebugging",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIServerMetrics",
        arguments: c"On|Off",
        default: "`Off`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGITelemetryService",
        arguments: c"unix:/path [interval=seconds]",
        default: "none",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGITelemetryOptions",
        arguments: c"[+|-]flag ...|None|All",
        default: "`None`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGISocketPrefix",
        arguments: c"path",
        default: "`wsgi` in httpd's directory for files of run time",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGISocketRotation",
        arguments: c"On|Off",
        default: "`On`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGIAcceptMutex",
        arguments: c"default|flock|fcntl|sysvsem|posixsem|pthread",
        default: "`default`",
        place: Place::MainServer,
    },
    Row {
        name: c"WSGILazyInitialization",
        arguments: c"...",
        default: "none",
        place: Place::Old,
    },
    Row {
        name: c"WSGIReloadMechanism",
        arguments: c"...",
        default: "none",
        place: Place::Old,
    },
    Row {
        name: c"WSGIOutputBuffering",
        arguments: c"...",
        default: "none",
        place: Place::Old,
    },
    Row {
        name: c"WSGIPy3kWarningFlag",
        arguments: c"...",
        default: "none",
        place: Place::Old,
    },
    Row {
        name: c"WSGIPythonExecutable",
        arguments: c"...",
        default: "none",
        place: Place::Old,
    },
    Row {
        name: c"WSGIUserAuthoritative",
        arguments: c"...",
        default: "none",
        place: Place::Old,
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
    /// Wherever an earlier version may have had it: it does nothing.
    Old,
}

impl Row {
    /// The name without the `<` that marks a section.
    pub(super) fn plain_name(&self) -> &'static str {
        self.name.to_str().expect("ASCII").trim_start_matches('<')
    }
}

impl Place {
    /// The bits that httpd compares.
    pub(super) const fn allowed(self) -> u32 {
        match self {
            Self::MainServer | Self::Server => RSRC_CONF,
            Self::Section => RSRC_CONF | ACCESS_CONF,
            Self::Htaccess => OR_FILEINFO,
            Self::Old => RSRC_CONF | ACCESS_CONF | OR_FILEINFO | OR_AUTHCFG,
            Self::Access => OR_AUTHCFG,
        }
    }

    /// What those bits leave open: httpd itself refuses all else.
    pub(super) fn forbidden(self) -> u32 {
        match self {
            Self::MainServer => GLOBAL_ONLY,
            Self::Server | Self::Section | Self::Htaccess | Self::Access | Self::Old => 0,
        }
    }

    /// As the pages say it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::MainServer => "server config",
            Self::Server => "server config, virtual host",
            Self::Section => "server config, virtual host, directory",
            Self::Htaccess => "server config, virtual host, directory, .htaccess (FileInfo)",
            Self::Old => {
                "server config, virtual host, directory, .htaccess (FileInfo or AuthConfig)"
            }
            Self::Access => "directory, .htaccess (AuthConfig)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, ROWS, Row};
    use std::collections::BTreeSet;
    use std::path::Path;

    /// The beginning of a directive's page, which the table knows.
    fn head(row: &Row) -> String {
        let (name, arguments) = (row.name.to_str().unwrap(), row.arguments.to_str().unwrap());
        let title = row.plain_name();
        format!(
            "# {title}\n\n|  |  |\n|---|---|\n| Syntax | `{name} {arguments}` |\n| Default | {} |\n\
             | Context | {} |\n\n",
            row.default,
            row.place.describe()
        )
    }

    /// The page all directives of earlier versions share.
    const OLD: &str = "old.md";

    /// With MANIFOLD_UPDATE_DOCS set, the heads are written instead.
    #[test]
    fn every_directive_has_a_page_that_begins_as_the_table_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/directives");
        let mut pages = BTreeSet::new();
        for row in ROWS {
            let name = match row.place {
                Place::Old => OLD.to_owned(),
                _ => format!("{}.md", row.plain_name()),
            };
            let path = folder.join(&name);
            pages.insert(name);
            let page = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if row.place == Place::Old {
                let line = format!("| `{}` |", row.plain_name());
                assert!(page.contains(&line), "{}: it has no row {line}", path.display());
            } else if std::env::var_os("MANIFOLD_UPDATE_DOCS").is_some() {
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
        let found = std::fs::read_dir(&folder).unwrap();
        let found: BTreeSet<_> =
            found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(found, pages, "there is a page for something that is no directive");
    }

    #[test]
    fn the_page_of_compatibility_knows_which_directives_there_are() {
        let page = include_str!("../../../docs/compatibility.md");
        let (_, table) = page.split_once("\n## Directives\n").expect("the page has a table");
        let table = table.split("\n## ").next().expect("the table ends");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
        let mut documented: Vec<_> = rows
            .filter(|row| !row.contains("| not yet |"))
            .map(|row| row.split(" |").next().expect("a cell").trim_matches(['`', '>']).to_owned())
            .collect();
        let mut registered: Vec<_> =
            ROWS.iter().map(|row| row.name.to_str().unwrap().to_owned()).collect();
        documented.sort();
        registered.sort();
        assert_eq!(documented, registered);
    }
}
