//! When a tenant gives a dictionary of its own for its bodies. Draws nothing.

use crate::plan::{Order, OrderKind};

/// Given, left and given again in a third of the plans, where the times of other orders say so: the dice of a seed fall as they did
/// before there were any.
pub fn draw(orders: &[Order], length_ms: u64) -> Vec<Order> {
    let drawn = orders.first().map_or(0, |order| order.at_ms);
    let at = |share: u64, own| Order { at_ms: length_ms * share / 20, order: OrderKind::Dictionary { own } };
    match drawn / 3 % 3 {
        0 => vec![at(5, true), at(10, false), at(13, true)],
        _ => Vec::new(),
    }
}
