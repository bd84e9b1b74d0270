//! Which cluster a command talks to, as whom, and in which namespace: contexts in a file of mode 0600, over them the
//! environment, over it flags.
//!
//! A context's token is only ever sent to the context's own address.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use clap::Args;
use dunlin_proto::ids::Namespace;
use http::uri::{InvalidUri, Scheme, Uri};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// Where `dunlin up` listens unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8081";

/// The namespace of whoever names none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// Flags that say which cluster, for every command that talks to one.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ContextArgs {
    /// Context to use, from `dunlin context list`
    #[arg(long, global = true, env = "DUNLIN_CONTEXT", value_name = "NAME", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
    /// Administration address of the cluster, such as http://127.0.0.1:8081 or https://admin.example.com:8081
    #[arg(long, global = true, env = "DUNLIN_URL", value_name = "URL", help_heading = "Cluster")]
    pub(crate) url: Option<String>,
    /// Namespace to work in
    #[arg(short, long, global = true, env = "DUNLIN_NAMESPACE", help_heading = "Cluster")]
    pub(crate) namespace: Option<Namespace>,
}

/// A cluster, and who one is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The administration address.
    pub(crate) url: String,
    /// The administration token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The namespace to work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<Namespace>,
}

impl Context {
    /// Whether it is of the cluster with this address.
    fn is_at(&self, url: &str) -> bool {
        normal(&self.url).is_ok_and(|own| own == url)
    }
}

/// The file of contexts.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them by their names.
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Where the file is: `$XDG_CONFIG_HOME/dunlin/config.toml`, in `~/.config` without that.
    pub(crate) fn path() -> Result<PathBuf, Failure> {
        home_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("dunlin/config.toml"))
    }

    /// Reads the file; one that is not there has no contexts.
    pub(crate) fn load() -> Result<Self, Failure> {
        Self::load_from(&Self::path()?)
    }

    fn load_from(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(|error| Failure::from(error).hint(format!("check {}", path.display())))?,
        };
        toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("cannot read contexts {}", path.display()))
                .because(error.to_string().trim_end().replace('\n', "; "))
                .hint("mend the file, or delete it and sign in again with: dunlin login")
        })
    }

    /// Writes the file, whole and private.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        self.save_to(&Self::path()?)
    }

    fn save_to(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(anyhow::Error::from)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let written =
            fs::create_dir_all(folder).and_then(|()| dunlin_process::data::write_private(path, text.as_bytes()));
        written.map_err(|error| Failure::new(Exit::Failed, format!("cannot write {}", path.display())).because(error))
    }

    /// The context of a cluster: the current one where it is, else any.
    pub(crate) fn at(&self, url: &str) -> Option<(&String, &Context)> {
        let current = self.current.as_ref().and_then(|name| self.contexts.get_key_value(name));
        current.into_iter().chain(&self.contexts).find(|(_, context)| context.is_at(url))
    }

    /// The context with this name.
    pub(crate) fn named(&self, name: &str) -> Result<&Context, Failure> {
        self.entry(name).map(|(_, context)| context)
    }

    fn entry(&self, name: &str) -> Result<(&String, &Context), Failure> {
        let names = || self.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
        self.contexts.get_key_value(name).ok_or_else(|| {
            let hint = match self.contexts.len() {
                0 => "there is none yet; start a cluster with: dunlin up, or sign in to one with: dunlin login"
                    .to_owned(),
                _ => format!("there are: {}", names()),
            };
            Failure::new(Exit::NotFound, format!("context {name:?} was not found")).hint(hint)
        })
    }
}

/// A folder of the user's, by the XDG base directory rules: an absolute path in `variable`, else `fallback` in the home.
pub(crate) fn home_folder(variable: &str, fallback: &str) -> Result<PathBuf, Failure> {
    let set = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(fallback));
    set.or_else(home).ok_or_else(|| {
        Failure::usage(format!("neither {variable} nor HOME is set")).hint(format!("set {variable} to a folder"))
    })
}

/// Where to go, as whom, in which namespace: the outcome of file, environment and flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The context that it comes from.
    pub(crate) context: Option<String>,
    /// The administration address.
    pub(crate) url: String,
    /// The token, where there is one.
    pub(crate) token: Option<String>,
    /// The namespace to work in.
    pub(crate) namespace: Namespace,
}

impl Target {
    /// The target of this command.
    pub(crate) fn resolve(args: &ContextArgs) -> Result<Self, Failure> {
        let token = env::var("DUNLIN_TOKEN").ok().filter(|token| !token.is_empty());
        Self::choose(args, token, &Contexts::load()?)
    }

    /// The choice, without the environment.
    fn choose(args: &ContextArgs, token: Option<String>, contexts: &Contexts) -> Result<Self, Failure> {
        let asked = args.context.as_deref().filter(|name| !name.is_empty());
        let url = args.url.as_deref().filter(|url| !url.is_empty()).map(normal).transpose()?;
        let context = match (asked.or(contexts.current.as_deref()), &url) {
            (None, None) => None,
            (Some(name), None) => Some(contexts.entry(name)?),
            (_, Some(url)) => asked.map_or_else(|| Ok(contexts.at(url)), |name| contexts.entry(name).map(Some))?,
        };
        let url = url.map_or_else(|| normal(context.map_or(DEFAULT_URL, |(_, context)| &context.url)), Ok)?;
        let own = context.filter(|(_, context)| context.is_at(&url));
        let namespace = args.namespace.clone().or_else(|| own.and_then(|(_, context)| context.namespace.clone()));
        Ok(Self {
            token: token.or_else(|| own.and_then(|(_, context)| context.token.clone())),
            namespace: namespace.map_or_else(default_namespace, Ok)?,
            context: own.map(|(name, _)| name.clone()),
            url,
        })
    }
}

/// The namespace of whoever names none.
pub(crate) fn default_namespace() -> Result<Namespace, Failure> {
    DEFAULT_NAMESPACE.parse().map_err(|error| Failure::usage(format!("{error}")))
}

/// The one spelling of an address: scheme, host and port, nothing else.
pub(crate) fn normal(url: &str) -> Result<String, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("{url:?} is not the address of a cluster: {why}"))
            .hint(format!("write it like {DEFAULT_URL}"))
    };
    let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = text.parse().map_err(|error: InvalidUri| wrong(&error.to_string()))?;
    let scheme = uri.scheme().filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
    let scheme = scheme.ok_or_else(|| wrong("the scheme must be http or https"))?;
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    if authority.is_empty()
        || authority.contains('@')
        || uri.query().is_some()
        || !matches!(text.split('/').nth(3), None | Some(""))
    {
        return Err(wrong("it may have a host and a port only"));
    }
    Ok(format!("{scheme}://{}", authority.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn contexts() -> Contexts {
        let context = |url: &str, token: &str, namespace: Option<&str>| Context {
            url: url.into(),
            token: Some(token.into()),
            namespace: namespace.map(|n| n.parse().unwrap()),
        };
        Contexts {
            current: Some("local".into()),
            contexts: [
                ("local".to_owned(), context(DEFAULT_URL, "local-token", None)),
                ("shop".to_owned(), context("http://10.0.0.1:8081", "shop-token", Some("shop"))),
            ]
            .into(),
        }
    }

    fn args(context: Option<&str>, url: Option<&str>) -> ContextArgs {
        ContextArgs { context: context.map(Into::into), url: url.map(Into::into), namespace: None }
    }

    #[test]
    fn flags_win_over_the_environment_and_it_over_the_file() {
        let target = Target::choose(&args(None, None), None, &contexts()).unwrap();
        assert_eq!((target.url.as_str(), target.token.as_deref()), (DEFAULT_URL, Some("local-token")));
        assert_eq!(target.namespace.as_str(), "default");
        let target = Target::choose(&args(Some("shop"), None), Some("env-token".into()), &contexts()).unwrap();
        assert_eq!((target.token.as_deref(), target.namespace.as_str()), (Some("env-token"), "shop"));
        let missing = Target::choose(&args(Some("nope"), None), None, &contexts()).unwrap_err();
        assert_eq!(missing.exit, Exit::NotFound);
        assert_eq!(Target::choose(&args(None, None), None, &Contexts::default()).unwrap().url, DEFAULT_URL);
    }

    #[test]
    fn t45_a_token_goes_to_its_own_cluster_only() {
        let target = Target::choose(&args(None, Some("http://evil.example:8081")), None, &contexts()).unwrap();
        assert_eq!((target.token, target.context), (None, None));
        let of = |args: &ContextArgs| Target::choose(args, None, &contexts()).unwrap().token;
        assert_eq!(of(&args(None, Some("http://127.0.0.1:8081/"))).as_deref(), Some("local-token"));
        assert_eq!(
            of(&args(None, Some("10.0.0.1:8081"))).as_deref(),
            Some("shop-token"),
            "any context of that address"
        );
        assert_eq!(of(&args(Some("local"), Some("10.0.0.1:8081"))), None, "but only the one that was asked for");
    }

    #[test]
    fn addresses_have_one_spelling() {
        for (text, expected) in [
            ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
            ("localhost:9000", "http://localhost:9000"),
            ("http://[::1]:8081", "http://[::1]:8081"),
            ("HTTPS://Admin.example.com", "https://admin.example.com"),
        ] {
            assert_eq!(normal(text).unwrap(), expected);
        }
        for text in ["", "ftp://x", "http://x/path", "https://x/path", "http://u:p@x", "http://x?q", "http://"] {
            assert_eq!(normal(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn the_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        contexts().save_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Contexts::load_from(&path).unwrap(), contexts());
        assert_eq!(Contexts::load_from(&folder.path().join("none")).unwrap(), Contexts::default());
        fs::write(&path, "curent = 'x'").unwrap();
        assert_eq!(Contexts::load_from(&path).unwrap_err().exit, Exit::Usage);
    }
}
