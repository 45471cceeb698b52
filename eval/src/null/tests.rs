use super::*;

/// All parts at a size for every day: about 5,000 keys a profile of h = 1 and 2, seed fixed, joint alpha 0.001
/// over all looks. A test that rejects at 1e-2 in 2 % of trials instead of 1 % fails, and so
/// does a mean square of z of 1.2 (counting repeats gives 2 and more).
#[test]
fn every_test_rejects_as_often_as_its_law_allows() {
    let material = Material::new(200, 173).unwrap();
    let profiles: Vec<Profile> = profiles().into_iter().take(10).collect();
    let plan = Plan::of(5000, 7, NonZeroUsize::new(2).unwrap());
    let looks = run(&material, &profiles, &plan, &|_| {}).unwrap();
    assert_eq!(looks.failures(), Vec::<String>::new());
    // The negative control: practices that are known not to hold, on the same material, do not hold.
    let invalid = |test: &str| {
        let counts = looks
            .counts
            .iter()
            .filter(|count| count.subject.test == test);
        counts.filter(|count| !count.holds).count()
    };
    assert!(invalid("INVALID: every position counted") > 0);
    assert!(invalid("(control: guilty student, closed-cells)") > 0);
}
