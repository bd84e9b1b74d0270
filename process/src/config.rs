//! Configuration in layers: defaults, then a TOML file, then the environment, then flags. Unknown fields are errors.
//!
//! Every crate has one struct of its own with `#[serde(default, deny_unknown_fields)]`; this only fills it.

use std::path::Path;

use anyhow::Context;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Serialize, de::DeserializeOwned};

/// Reads the configuration of a process: `file` if there is one, over it variables such as `DUNLIN_WORKER_DATA_DIR` for
/// `prefix` `DUNLIN_WORKER_` (two underscores lead into a table), over those the `flags` that are not null.
///
/// # Errors
/// The file can't be read, a field is unknown or has the wrong type; the message names the field and its source.
pub fn load<T: Serialize + DeserializeOwned + Default>(
    file: Option<&Path>,
    prefix: &str,
    flags: impl Serialize,
) -> anyhow::Result<T> {
    let mut layers = Figment::from(Serialized::defaults(T::default()));
    if let Some(file) = file {
        // Read here, since a missing file would silently be an empty one there.
        let text = std::fs::read_to_string(file).with_context(|| format!("read configuration {}", file.display()))?;
        toml::from_str::<T>(&text).with_context(|| format!("read configuration {}", file.display()))?;
        layers = layers.merge(Toml::string(&text));
    }
    let flags = without_nulls(serde_json_like(flags)?);
    let layers = layers.merge(Env::prefixed(prefix).split("__")).merge(Serialized::globals(flags));
    layers.extract().context("read configuration")
}

/// Flags as a figment value, so that absent ones can be told.
fn serde_json_like(flags: impl Serialize) -> anyhow::Result<figment::value::Value> {
    figment::value::Value::serialize(flags).context("read flags")
}

/// Drops what was not given, so that it does not hide the layers below.
fn without_nulls(value: figment::value::Value) -> figment::value::Value {
    use figment::value::{Empty, Value};
    match value {
        Value::Dict(tag, dict) => {
            let given = dict.into_iter().filter(|(_, v)| !matches!(v, Value::Empty(_, Empty::None | Empty::Unit)));
            Value::Dict(tag, given.map(|(k, v)| (k, without_nulls(v))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        listen: String,
        grace_seconds: u32,
    }

    impl Default for Config {
        fn default() -> Self {
            Self { listen: "127.0.0.1:1".into(), grace_seconds: 30 }
        }
    }

    #[derive(Serialize, Default)]
    struct Flags {
        listen: Option<String>,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = file("listen = '127.0.0.1:2'\ngrace_seconds = 5");
        let config: Config = load(Some(file.path()), "DUNLIN_NOBODY_", Flags::default()).unwrap();
        assert_eq!(config, Config { listen: "127.0.0.1:2".into(), grace_seconds: 5 });
        let flags = Flags { listen: Some("127.0.0.1:3".into()) };
        let config: Config = load(Some(file.path()), "DUNLIN_NOBODY_", flags).unwrap();
        assert_eq!(config, Config { listen: "127.0.0.1:3".into(), grace_seconds: 5 });
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let file = file("listen = '127.0.0.1:2'\nlisten_adress = 'x'");
        let error = load::<Config>(Some(file.path()), "DUNLIN_NOBODY_", Flags::default()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("listen_adress") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn a_missing_file_is_an_error() {
        assert!(load::<Config>(Some(Path::new("/nowhere/dunlin.toml")), "DUNLIN_NOBODY_", Flags::default()).is_err());
    }
}
