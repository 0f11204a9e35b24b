//! The regions and residency policies that this release knows. Anything else is refused.
//!
//! A policy says where the bytes of a zone may be. The older system treated an unknown policy as the most permissive
//! one; here every name maps to an explicit list of regions, and a member outside that list stops the start.

/// The ten regions, in the order in which `nethical dev` uses them.
pub const REGIONS: [&str; 10] = [
    "us-east-1",
    "eu-west-1",
    "ap-south-1",
    "us-west-2",
    "ca-central-1",
    "sa-east-1",
    "eu-central-1",
    "me-south-1",
    "ap-northeast-1",
    "ap-southeast-1",
];

/// What a residency policy allows.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct ResidencyPolicy {
    /// The name that configuration uses.
    pub name: &'static str,
    /// Regions in which members of a zone under this policy may stand.
    pub regions: &'static [&'static str],
    /// Days after which decisions may be dropped, as the policy's law asks; advice to operators, not enforced here.
    pub retention_days: u32,
    /// What the policy stands for, for reports.
    pub tags: &'static [&'static str],
}

impl ResidencyPolicy {
    /// True where a member may stand in `region`.
    pub fn allows(&self, region: &str) -> bool {
        self.regions.contains(&region)
    }
}

const US: &[&str] = &["us-east-1", "us-west-2"];
const EU: &[&str] = &["eu-west-1", "eu-central-1"];

/// Every policy known. `US_CCPA`, `AI_ACT` and `GLOBAL_DEFAULT` allow transfers across borders; the others do not.
pub const POLICIES: [ResidencyPolicy; 11] = [
    policy("GLOBAL_DEFAULT", &REGIONS, 365, &["basic_safety"]),
    policy("US_CCPA", &REGIONS, 90, &["CCPA", "consumer_privacy"]),
    policy("AI_ACT", &REGIONS, 180, &["AI_ACT", "high_risk_ai", "transparency"]),
    policy("EU_GDPR", EU, 30, &["GDPR", "data_protection", "right_to_erasure"]),
    policy("EU_STRICT", EU, 30, &["GDPR", "EU_AI_ACT", "GERMAN_BDSG"]),
    policy("US_WEST", US, 90, &["US_FEDERAL", "CCPA"]),
    policy("CANADA_STRICT", &["ca-central-1"], 90, &["CANADA_PIPEDA", "QUEBEC_LAW_25"]),
    policy("BRAZIL_STRICT", &["sa-east-1"], 90, &["BRAZIL_LGPD", "LATAM_PRIVACY"]),
    policy("MIDDLE_EAST_STRICT", &["me-south-1"], 90, &["UAE_PDPL", "SAUDI_PDPL", "BAHRAIN_PDPL"]),
    policy("JAPAN_STRICT", &["ap-northeast-1"], 90, &["JAPAN_APPI", "APAC_PRIVACY"]),
    policy("SINGAPORE", &["ap-southeast-1"], 90, &["SINGAPORE_PDPA", "APAC_PRIVACY"]),
];

const fn policy(
    name: &'static str,
    regions: &'static [&'static str],
    retention_days: u32,
    tags: &'static [&'static str],
) -> ResidencyPolicy {
    ResidencyPolicy { name, regions, retention_days, tags }
}

/// The policy of that name, exactly as written.
pub fn residency(name: &str) -> Option<&'static ResidencyPolicy> {
    POLICIES.iter().find(|policy| policy.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_names_known_regions_only() {
        for policy in &POLICIES {
            assert!(!policy.regions.is_empty(), "{}", policy.name);
            assert!(policy.regions.iter().all(|region| REGIONS.contains(region)), "{}", policy.name);
        }
    }

    #[test]
    fn strict_policies_keep_data_inside_and_unknown_names_are_nobody() {
        assert!(!residency("EU_GDPR").expect("known").allows("us-east-1"));
        assert!(residency("EU_GDPR").expect("known").allows("eu-central-1"));
        assert!(residency("GLOBAL_DEFAULT").expect("known").allows("me-south-1"));
        assert_eq!(residency("eu_gdpr"), None);
        assert_eq!(residency("MARS_STRICT"), None);
    }
}
