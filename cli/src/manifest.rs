//! The manifest `dunlin.toml`: what to build, what to deploy, what to grant it, and by which routes it is called. It is of one function,
//! or of an app with several.
//!
//! Field names are those that WebAssembly users know from elsewhere. An unknown field, a wrong type and a value out of
//! range are errors with line and column; how they are found is in `manifest/reader.rs`.

mod function;
mod reader;
mod routes;
#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use dunlin_proto::{
    ids::{AppId, FunctionName},
    v1,
};

pub(crate) use self::function::{Build, Function};
use self::reader::{Reader, Section};
use crate::exit::Failure;

/// The name of the manifest's file.
pub(crate) const FILE_NAME: &str = "dunlin.toml";

/// A manifest that has been read and checked.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// What its functions and routes together are called; absent where it is of one function without routes.
    pub(crate) app: Option<AppId>,
    /// Its functions in the order of their names; never empty.
    pub(crate) functions: Vec<Function>,
    /// Its routes, each with its bare name.
    pub(crate) routes: Vec<v1::Route>,
}

impl Manifest {
    /// Reads the manifest in this file.
    ///
    /// # Errors
    /// It can't be read, or is not a manifest; the message has file, line and column.
    pub(crate) fn load(file: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read manifest {}", file.display())).because(error))?;
        Self::parse(&file.display().to_string(), &text)
    }

    /// Reads a manifest; `file` is what messages call it.
    ///
    /// # Errors
    /// It is not one.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Failure> {
        let reader = Reader::new(file, text);
        let root = reader.root()?;
        if root.names().any(|name| name == "app") { Self::app(root) } else { Self::one(root) }
    }

    /// One function, whose name is the app's too where there are routes.
    fn one(root: Section<'_>) -> Result<Self, Failure> {
        if let Some(functions) = root.section("functions")? {
            let message = "[functions] belongs to an app: say what it is called, as in app = \"shop\"";
            return Err(functions.wrong("", message));
        }
        let known = [&["name"][..], &function::FIELDS, &["routes"]].concat();
        let root = root.with_fields(&known)?;
        let name = root.required("name", |text| text.parse::<FunctionName>().map_err(|error| error.to_string()))?;
        let app = root.names().any(|name| name == "routes").then(|| app(name.as_str())).transpose();
        let app = app.map_err(|error| root.wrong("name", &error))?;
        let functions = vec![Function::read(&root, name)?];
        let routes = routes::read(&root, &functions)?;
        Ok(Self { app, functions, routes })
    }

    /// An app with a table for each function.
    fn app(root: Section<'_>) -> Result<Self, Failure> {
        let root = root.with_fields(&["app", "functions", "routes"])?;
        let app = root.required("app", app)?;
        let missing = || root.wrong("app", "an app has a table for each of its functions, as in [functions.pay]");
        let table = root.section("functions")?.ok_or_else(missing)?;
        let functions = table.names().map(|name| in_app(&table, &name)).collect::<Result<Vec<_>, _>>()?;
        if functions.is_empty() {
            return Err(missing());
        }
        let routes = routes::read(&root, &functions)?;
        Ok(Self { app: Some(app), functions, routes })
    }
}

fn app(text: &str) -> Result<AppId, String> {
    text.parse::<AppId>().map_err(|error| error.to_string())
}

/// The function of an app that has this name.
fn in_app(table: &Section<'_>, name: &str) -> Result<Function, Failure> {
    let id = name.parse::<FunctionName>().map_err(|error| table.wrong(name, &error.to_string()))?;
    let missing = || table.wrong(name, "it must be a table");
    let section = table.section(name)?.ok_or_else(missing)?.with_fields(&function::FIELDS)?;
    Function::read(&section, id)
}
