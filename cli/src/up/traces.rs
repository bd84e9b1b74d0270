//! What `dunlin up --trace` prints: each invocation as it comes, as a tree for people or an object for programs.
//!
//! How a trace looks is in `view/trace.rs`.

use dunlin_gateway::{Tree, Trees};
use dunlin_process::shutdown::Shutdown;

use crate::{
    exit::Failure,
    output::{Output, Style},
    view::trace::{self, TraceView},
};

/// Prints traces as they come, until the shutdown.
pub(crate) async fn print(mut trees: Trees, output: Output, shutdown: Shutdown) {
    let style = Style::of_stdout();
    loop {
        let tree = tokio::select! { tree = trees.next() => tree, () = shutdown.begun() => return };
        let Some(tree) = tree else { return };
        if let Err(failure) = print_one(&tree, output, style) {
            return output.failure(&failure);
        }
    }
}

fn print_one(tree: &Tree, output: Output, style: Style) -> Result<(), Failure> {
    if output.is_json() { output.json_line(&TraceView::from(tree)) } else { output.text(&trace::text(tree, style)) }
}
