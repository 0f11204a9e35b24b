//! When somebody turns signing keys. Draws nothing.

use crate::plan::{Order, OrderKind};

/// Turns in a third of the plans, where the times of other orders say so: the dice of a seed fall as they did before there
/// were any.
pub fn draw(orders: &[Order], length_ms: u64) -> Vec<Order> {
    let drawn = orders.first().map_or(0, |order| order.at_ms);
    let turn = |share: u64, overlap_s, node| Order {
        at_ms: length_ms * share / 20,
        order: OrderKind::RotateKeys { overlap_s, node },
    };
    match drawn % 3 {
        0 => vec![turn(7, 2, 0), turn(9, 0, 1), turn(11, 0, 0)],
        _ => Vec::new(),
    }
}
