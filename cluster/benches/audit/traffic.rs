//! Made-up decisions: who acts how often, how sessions end, how risky it is. Bodies come from elsewhere.

use nethical_audit::keys::TenantKeys;
use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_protocol::ids::KeyedId;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

pub const TENANTS: usize = 12;
pub const AGENTS: usize = 4_000;
pub const TOOLS: usize = 80;
pub const RULES: usize = 60;
pub const START_NS: u64 = 1_767_225_600_000_000_000;

/// Made-up traffic: few agents act often and most seldom, sessions end, risks are mostly low.
pub struct Traffic {
    pub dice: ChaCha12Rng,
    pub tenants: Vec<TenantKeys>,
    sessions: Vec<u64>,
    pub agents: Vec<(KeyedId, KeyedId)>,
    pub now_ns: u64,
    group: u32,
}

impl Traffic {
    pub fn new(group: u32) -> Self {
        let tenants: Vec<TenantKeys> = (0..TENANTS).map(|number| TenantKeys::new(&[number as u8 + 1; 32])).collect();
        let agent = |number: usize| {
            let keys = &tenants[number % TENANTS];
            (
                keys.keyed_id("tenant", format!("tenant {}", number % TENANTS)),
                keys.keyed_id("agent", format!("agent {number}")),
            )
        };
        let agents = (0..AGENTS).map(agent).collect();
        Self {
            dice: ChaCha12Rng::seed_from_u64(u64::from(group)),
            tenants,
            sessions: vec![0; AGENTS],
            agents,
            now_ns: START_NS,
            group,
        }
    }

    /// A number below `count`, the small ones far more often (the square of a uniform one, twice).
    pub fn skewed(&mut self, count: usize) -> usize {
        let mut number = self.dice.random_range(0..1_000_000u64);
        for _ in 0..2 {
            number = number * number / 1_000_000;
        }
        (number as usize * count) / 1_000_000
    }

    pub fn leaf(&mut self, index: u64, body_commitment: [u8; 32]) -> LeafV1 {
        let agent = self.skewed(AGENTS);
        let ends = self.dice.random_range(0..12) == 0;
        self.sessions[agent] += u64::from(ends);
        let (session, tool) = (self.sessions[agent], self.skewed(TOOLS));
        let keys = &self.tenants[agent % TENANTS];
        let session = keys.keyed_id("session", format!("session {session} of {agent}"));
        let tool = keys.keyed_id("tool", format!("tool {tool}"));
        let risk = self.skewed(1_001) as u16;
        let verdict = match self.dice.random_range(0..100) {
            0..88 => 0,
            88..94 => 1,
            94..96 => 2,
            96..99 => 3,
            _ => 4,
        };
        let rules = 0..self.dice.random_range(1..3);
        let rules = rules.map(|_| (self.skewed(RULES) as u64 + 1).to_le_bytes()).collect();
        let mut request = [0; 16];
        self.dice.fill_bytes(&mut request);
        self.now_ns += self.dice.random_range(1_000_000..5_000_000);
        let (tenant, agent) = self.agents[agent];
        let decision = DecisionLeaf {
            request: KeyedId(request),
            client_chosen: true,
            tenant,
            agent,
            session,
            tool,
            risk,
            verdict,
            rules,
            costs: vec![(KeyedId([1; 16]), 1)],
            ..DecisionLeaf::default()
        };
        let event = LeafEvent::Decision(Box::new(decision));
        LeafV1 { group: self.group, era: 1, leaf_index: index, now_ns: self.now_ns, term: 1, body_commitment, event }
    }
}
