//! The tree in which a path finds its route: a level for each segment.
//!
//! Not `matchit`, which serves the JSON endpoints: there a parameter and the rest of a path can't stand in the same place, and
//! a method that a route does not take can't lead on to a less specific one.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use dunlin_proto::route::Segment;
use smallvec::SmallVec;

use super::rule::{Rule, safe};
use crate::routes::path;

/// The routes of some hosts by their paths.
#[derive(Debug, Default)]
pub(super) struct Paths(Node);

/// What can follow a beginning of paths.
#[derive(Debug, Default)]
struct Node {
    /// By the next segment, decoded.
    literals: HashMap<Box<[u8]>, Node>,
    /// Any next segment.
    parameter: Option<Box<Node>>,
    /// Routes whose pattern ends here.
    end: Vec<Arc<Rule>>,
    /// Routes for everything that follows.
    rest: Vec<Arc<Rule>>,
    /// Of these, the ones that are content with nothing.
    nothing: Vec<Arc<Rule>>,
}

/// A route that takes a request.
#[derive(Debug)]
pub(crate) struct Matched<'p> {
    pub(crate) rule: Arc<Rule>,
    /// The values of its parameters in their order.
    pub(crate) values: SmallVec<[Cow<'p, str>; 2]>,
}

/// The segments that parameters stand for; few paths have more of them than there is room for here.
type Captured<'p> = SmallVec<[&'p str; 4]>;

/// What a path leads to: routes, the segments that parameters stand for, and what is left of the path.
struct Place<'r, 'w, 'p> {
    rules: &'r [Arc<Rule>],
    captured: &'w [&'p str],
    left: Option<&'p str>,
}

impl Paths {
    /// Adds a route.
    pub(super) fn insert(&mut self, rule: Arc<Rule>) {
        let mut node = &mut self.0;
        for segment in rule.spec.path.segments() {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_bytes().into()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default().as_mut(),
            };
        }
        match rule.spec.path.tail().map(|tail| tail.optional) {
            None => node.end.push(rule),
            Some(false) => node.rest.push(rule),
            Some(true) => {
                node.rest.push(rule.clone());
                node.nothing.push(rule);
            }
        }
    }

    /// The most specific route for a path and method.
    pub(super) fn find<'p>(&self, path: &'p str, method: &str) -> Option<Matched<'p>> {
        let (segments, trimmed) = divide(path);
        walk(&self.0, segments, &mut Captured::new(), &mut |place| {
            let rule = choose(place.rules, method)?.clone();
            let rest = place.left.map(|left| whole(left, trimmed));
            let values = place.captured.iter().copied().chain(rest).map(safe).collect();
            Some(Matched { rule, values })
        })
    }

    /// Adds the routes that have a path, whatever methods they take, the most specific first.
    pub(super) fn having(&self, path: &str, found: &mut Vec<Arc<Rule>>) {
        walk(&self.0, divide(path).0, &mut Captured::new(), &mut |place| {
            found.extend(place.rules.iter().cloned());
            None::<()>
        });
    }
}

/// The segments of a path, nothing for the root, and the slash at the end that was taken off.
fn divide(path: &str) -> (Option<&str>, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.strip_suffix('/') {
        Some(trimmed) => (Some(trimmed).filter(|trimmed| !trimmed.is_empty()), Some(path)),
        None => (Some(path).filter(|path| !path.is_empty()), None),
    }
}

/// The rest of a path with the slash at its end, where the caller wrote one.
fn whole<'p>(left: &'p str, with_slash: Option<&'p str>) -> &'p str {
    let longer = with_slash.filter(|_| !left.is_empty());
    longer.and_then(|path| path.get(path.len().checked_sub(left.len() + 1)?..)).unwrap_or(left)
}

/// Shows what a path leads to, the most specific first, until something is found. No node is come to twice.
fn walk<'r, 'p, T>(
    node: &'r Node,
    segments: Option<&'p str>,
    captured: &mut Captured<'p>,
    visit: &mut impl FnMut(Place<'r, '_, 'p>) -> Option<T>,
) -> Option<T> {
    let Some(left) = segments else {
        let found = visit(Place { rules: &node.end, captured, left: None });
        return found.or_else(|| visit(Place { rules: &node.nothing, captured, left: Some("") }));
    };
    let (segment, after) = left.split_once('/').map_or((left, None), |(segment, after)| (segment, Some(after)));
    if let Some(next) = literal(node, segment)
        && let Some(found) = walk(next, after, captured, visit)
    {
        return Some(found);
    }
    if let Some(next) = node.parameter.as_deref().filter(|_| !segment.is_empty()) {
        captured.push(segment);
        if let Some(found) = walk(next, after, captured, visit) {
            return Some(found);
        }
        captured.pop();
    }
    let rules: &[_] = if left.is_empty() { &node.nothing } else { &node.rest };
    visit(Place { rules, captured, left: Some(left) })
}

fn literal<'n>(node: &'n Node, segment: &str) -> Option<&'n Node> {
    if node.literals.is_empty() { None } else { node.literals.get(&*path::segment(segment)) }
}

/// The route of a place for a method: one that names it, for HEAD then one that names GET, then one for all.
fn choose<'r>(rules: &'r [Arc<Rule>], method: &str) -> Option<&'r Arc<Rule>> {
    let naming = |method: &str| rules.iter().find(|rule| rule.takes(method));
    let head = || if method == "HEAD" { naming("GET") } else { None };
    naming(method).or_else(head).or_else(|| rules.iter().find(|rule| rule.spec.methods.is_empty()))
}
