//! The counter of a rolling window: what was charged within the last `window_ns`, in at most 33 cells.
//!
//! No window of that length, wherever it begins, ever admits more than the cap. A window of W is cut into 32
//! sub-windows of `ceil(W / 32)` nanoseconds. All that is charged within one sub-window shares a cell, and the cell
//! counts until W after its *latest* charge. That is the timestamping of Datar, Gionis, Indyk and Motwani ("Maintaining
//! Stream Statistics over Sliding Windows", SIAM J. Comput. 31(6), 2002, section 3), with cells of equal width: an old
//! charge may count up to one sub-window (W / 32, 3.2 %) too long, and none is ever forgotten too soon. A charge that is
//! alone in its sub-window expires to the nanosecond.
//!
//! It must not know caps, modes or limits; it holds amounts and times.

/// Sub-windows of a window.
const SUB_WINDOWS: u64 = 32;
/// The window now open may cut the oldest sub-window, so one more cell than sub-windows can be live; 16 B each.
pub const CELLS_MAX: usize = SUB_WINDOWS as usize + 1;

/// What was charged within one sub-window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Log time of its latest charge, nanoseconds.
    pub last_ns: u64,
    /// Units, never 0.
    pub amount: u64,
}

impl Cell {
    fn is_live(&self, window_ns: u64, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_ns) < window_ns
    }

    fn left_ns(&self, window_ns: u64, now_ns: u64) -> u64 {
        self.last_ns.saturating_add(window_ns).saturating_sub(now_ns)
    }
}

/// The cells of one counter, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cells(Vec<Cell>);

impl Cells {
    /// Cells as a snapshot gives them; `None` where there are too many, one is empty, or they are out of order.
    pub fn restore(cells: Vec<Cell>) -> Option<Self> {
        let is_sorted = cells.windows(2).all(|pair| pair[0].last_ns < pair[1].last_ns);
        let is_valid = cells.len() <= CELLS_MAX && is_sorted && cells.iter().all(|cell| cell.amount > 0);
        is_valid.then_some(Self(cells))
    }

    /// All cells, oldest first, dead ones included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Cell> {
        self.0.iter()
    }

    fn live(&self, window_ns: u64, now_ns: u64) -> impl Iterator<Item = Cell> {
        self.0.iter().copied().filter(move |cell| cell.is_live(window_ns, now_ns))
    }

    /// Units that count at `now_ns`.
    pub fn used(&self, window_ns: u64, now_ns: u64) -> u128 {
        self.live(window_ns, now_ns).map(|cell| u128::from(cell.amount)).sum()
    }

    /// Nanoseconds until at most `room` units count, if nothing else is charged.
    pub fn wait_ns(&self, room: u128, window_ns: u64, now_ns: u64) -> u64 {
        let (mut used, mut wait_ns) = (self.used(window_ns, now_ns), 0);
        for cell in self.live(window_ns, now_ns) {
            if used <= room {
                break;
            }
            used -= u128::from(cell.amount);
            wait_ns = cell.left_ns(window_ns, now_ns);
        }
        wait_ns
    }

    /// The counter after a charge, without what counts no more. Cells that lie within one sub-window are put together
    /// under the later time, those of a window that was longer or shorter before as well; hence never over the bound.
    pub fn charged(&self, cost: u64, window_ns: u64, now_ns: u64) -> Self {
        let sub_ns = window_ns.div_ceil(SUB_WINDOWS).max(1);
        let newest_ns = self.0.last().map_or(now_ns, |cell| cell.last_ns.max(now_ns));
        let charge = Cell { last_ns: newest_ns, amount: cost };
        let mut kept: Vec<Cell> = Vec::with_capacity(self.0.len() + 1);
        for cell in self.live(window_ns, now_ns).chain([charge]) {
            match kept.last_mut() {
                Some(last) if last.last_ns / sub_ns == cell.last_ns / sub_ns => {
                    *last = Cell { last_ns: cell.last_ns, amount: last.amount.saturating_add(cell.amount) };
                }
                _ => kept.push(cell),
            }
        }
        Self(kept)
    }

    /// The counter after giving back units of what was charged at `held_ns`, under the same window as now: they are in
    /// the cell of that sub-window, if it still counts.
    pub fn refunded(&self, units: u64, held_ns: u64, window_ns: u64, now_ns: u64) -> Self {
        let mut cells = self.clone();
        let sub_ns = window_ns.div_ceil(SUB_WINDOWS).max(1);
        let holds = |cell: &&mut Cell| cell.last_ns / sub_ns == held_ns / sub_ns;
        if let Some(cell) = cells.0.iter_mut().find(holds).filter(|cell| cell.is_live(window_ns, now_ns)) {
            cell.amount = cell.amount.saturating_sub(units);
        }
        cells.0.retain(|cell| cell.amount > 0);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_NS: u64 = 3_200;

    #[test]
    fn a_charge_alone_in_its_sub_window_expires_to_the_nanosecond() {
        let cells = Cells::default().charged(5, WINDOW_NS, 150).charged(2, WINDOW_NS, 250);
        assert_eq!((cells.used(WINDOW_NS, 3_349), cells.used(WINDOW_NS, 3_350)), (7, 2));
        assert_eq!((cells.wait_ns(6, WINDOW_NS, 300), cells.wait_ns(1, WINDOW_NS, 300)), (3_050, 3_150));
        assert_eq!(cells.wait_ns(7, WINDOW_NS, 300), 0);
    }

    #[test]
    fn charges_of_one_sub_window_expire_with_its_latest() {
        let cells = Cells::default().charged(1, WINDOW_NS, 100).charged(1, WINDOW_NS, 199);
        assert_eq!(cells.iter().len(), 1);
        assert_eq!((cells.used(WINDOW_NS, 3_398), cells.used(WINDOW_NS, 3_399)), (2, 0));
    }

    #[test]
    fn there_are_never_more_cells_than_the_bound_whatever_becomes_of_the_window() {
        for (first_ns, second_ns) in [(3_200, 3_200), (3_200, 320_000), (320_000, 3_200), (64, 3_201), (1, 7)] {
            let mut cells = Cells::default();
            for now_ns in (0..400_000).step_by(9) {
                cells = cells.charged(1, if now_ns < 200_000 { first_ns } else { second_ns }, now_ns);
                assert!(cells.iter().len() <= CELLS_MAX, "{} cells at {now_ns}", cells.iter().len());
                assert_eq!(Cells::restore(cells.0.clone()).as_ref(), Some(&cells));
            }
        }
    }

    #[test]
    fn cells_out_of_order_or_beyond_the_bound_are_refused() {
        let cell = |last_ns| Cell { last_ns, amount: 1 };
        assert!(Cells::restore(vec![cell(2), cell(2)]).is_none());
        assert!(Cells::restore(vec![Cell { last_ns: 1, amount: 0 }]).is_none());
        assert!(Cells::restore((0..33).map(cell).collect()).is_some());
        assert!(Cells::restore((0..34).map(cell).collect()).is_none());
    }
}
