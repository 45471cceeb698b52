//! stub
use super::LnP;
/// Ks
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ks {
    /// d
    pub d: f64,
    /// p
    pub p: LnP,
}
/// rank
pub fn rank_p(at_least: u64, decoys: u64) -> LnP {
    LnP::from_ln(((at_least + 1) as f64 / (decoys + 1) as f64).ln())
}
/// ks
pub fn ks_uniform(p: &mut [f64]) -> Ks {
    let _ = p;
    Ks {
        d: 0.0,
        p: LnP::ONE,
    }
}
