//! How large a tree may grow, whatever its text tells aliases and variables to repeat.

use super::node::{Node, Value};

/// What a tree takes of the budget.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) const ONE: Self = Self { nodes: 1, bytes: 0 };

    pub(super) fn of_text(text: &str) -> Self {
        Self { nodes: 1, bytes: text.len() }
    }

    fn plus(self, other: Self) -> Self {
        Self { nodes: self.nodes.saturating_add(other.nodes), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// With what was added; `None` beyond the bounds.
    pub(super) fn spend(self, more: Self) -> Option<Self> {
        let sum = self.plus(more);
        (sum.nodes <= MAX_NODES && sum.bytes <= MAX_TEXT_BYTES).then_some(sum)
    }
}

/// What repeating this node adds.
pub(super) fn size_of(node: &Node) -> Size {
    match &node.value {
        Value::Null | Value::Mistaken => Size::ONE,
        Value::Scalar(scalar) => Size::of_text(&scalar.text),
        Value::List(items) => items.iter().map(size_of).fold(Size::ONE, Size::plus),
        Value::Map(entries) => {
            entries.iter().fold(Size::ONE, |sum, (key, entry)| sum.plus(Size::of_text(key)).plus(size_of(&entry.node)))
        }
    }
}

/// The levels of this node, its own included.
pub(super) fn depth_of(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Mistaken | Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(depth_of).max().unwrap_or(0),
        Value::Map(entries) => entries.values().map(|entry| depth_of(&entry.node)).max().unwrap_or(0),
    }
}

/// A policy needs nine levels. The bound keeps every walk over the tree, and its drop, on a small stack.
pub(super) const MAX_DEPTH: usize = 64;

/// Keys and values, those that aliases repeat included. Without it a few lines of aliases to aliases would fill any
/// memory; a file of rules reaches `syntax::MAX_BYTES` first.
pub(super) const MAX_NODES: usize = 1 << 20;

/// Twice what a file can hold by itself: what aliases and variables may add.
pub(super) const MAX_TEXT_BYTES: usize = 2 * super::syntax::MAX_BYTES;
