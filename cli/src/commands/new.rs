//! `dunlin new`: begins a function from a template.

use std::{fs, path::PathBuf};

use clap::Args;
use dunlin_proto::ids::FunctionName;
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    output::Output,
    templates::{ALL, Template},
};

/// Arguments of `dunlin new`.
#[derive(Args)]
pub(crate) struct NewArgs {
    /// Language or kind of the function
    #[arg(short, long, value_name = "TEMPLATE")]
    template: Option<String>,
    /// Name of the function
    name: FunctionName,
    /// Folder to make; by default one with the function's name
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: &NewArgs, output: Output) -> Result<(), Failure> {
    let template = template(args.template.as_deref())?;
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(args.name.as_str()));
    let taken = fs::symlink_metadata(&folder).is_ok_and(|found| !found.is_dir())
        || fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        return Err(Failure::usage(format!("{} is there already, and nothing is overwritten", folder.display()))
            .hint("choose another name, or another folder with --dir"));
    }
    template
        .write(&folder, &args.name)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write {}", folder.display())).because(error))?;
    if output.is_json() {
        return output.json(&json!({ "name": args.name, "template": template.name, "folder": folder }));
    }
    output.note(format!("made {} from template {}", folder.display(), template.name));
    output.note(format!("next: cd {} && dunlin deploy", folder.display()));
    Ok(())
}

fn template(name: Option<&str>) -> Result<&'static Template, Failure> {
    let all = || ALL.iter().map(|template| template.name).collect::<Vec<_>>().join(", ");
    let wrong = |what: String| Failure::usage(what).hint(format!("choose one with -t: {}", all()));
    let name = name.ok_or_else(|| wrong("which template?".to_owned()))?;
    Template::named(name).ok_or_else(|| wrong(format!("there is no template {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, Style};

    const QUIET: Output = Output { format: Format::Table, quiet: true };

    #[test]
    fn an_unknown_template_lists_those_there_are() {
        for name in [None, Some("cobol")] {
            let text = template(name).unwrap_err().text(Style::PLAIN);
            assert!(ALL.iter().all(|template| text.contains(template.name)), "{text}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "precious").unwrap();
        let args = NewArgs {
            template: ALL.first().map(|template| template.name.to_owned()),
            name: "a".parse().unwrap(),
            dir: Some(folder.path().to_owned()),
        };
        assert_eq!(run(&args, QUIET).unwrap_err().exit, Exit::Usage);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
