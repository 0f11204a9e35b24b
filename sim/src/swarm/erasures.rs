//! When somebody asks for an erasure. Draws nothing.

use crate::plan::{Order, OrderKind};

/// Erasures in half of the plans, where the times of other orders say so: the dice of a seed fall as they did before there
/// were any.
pub fn draw(orders: &[Order], spread_agents: u32, length_ms: u64) -> Vec<Order> {
    let drawn = orders.first().map_or(0, |order| order.at_ms);
    let agent = (drawn / 2 % u64::from(spread_agents)) as u32;
    let at = |share: u64| Order { at_ms: length_ms * share / 10, order: OrderKind::Erase { agent } };
    if drawn.is_multiple_of(2) { vec![at(4), at(6)] } else { Vec::new() }
}
